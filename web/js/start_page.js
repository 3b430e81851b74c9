// `/`.

import { startPage } from "./view/start.js";

startPage(document.body);
