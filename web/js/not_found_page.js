// Any address without a page.

import { endingScreen } from "./view/ending.js";
import { header } from "./view/parts.js";

document.body.append(header(), endingScreen({ t: "not_found_title", lead: "not_found_lead", testid: "not-found" }));
