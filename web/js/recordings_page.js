// `/recordings/{number}`.

import { numberHere, takeHostToken } from "./addresses.js";
import { api } from "./protocol.js";
import { recordingsPage } from "./view/recordings.js";

const number = numberHere();
const hostToken = takeHostToken();
if (hostToken) await api.becomeHost(number, hostToken).catch(() => undefined);
recordingsPage(document.body, number);
