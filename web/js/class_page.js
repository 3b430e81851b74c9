// `/class/{number}`: the way from the address to the join page, and from there, or after a reload, into the class.

import { numberHere, takeHostToken } from "./addresses.js";
import { errorSentence } from "./i18n.js";
import { recallSeat } from "./memory.js";
import { ApiError, api } from "./protocol.js";
import { Room } from "./room.js";
import { exposeForTests } from "./test_hooks.js";
import { classroom, loadingScreen } from "./view/classroom.js";
import { el } from "./view/dom.js";
import { endingScreen } from "./view/ending.js";
import { joinPage } from "./view/join.js";
import { button, header } from "./view/parts.js";

/** @import { Entry } from "./room.js" */

const number = numberHere();
const hostToken = takeHostToken();
const root = document.body;

void start();

async function start() {
  const seat = recallSeat(number);
  root.replaceChildren(loadingScreen());
  try {
    if (hostToken) await becomeHost(hostToken);
    if (seat && !hostToken) {
      /** @type {Entry["devices"]} */
      const devices = [];
      if (seat.camera) devices.push("camera");
      if (seat.microphone) devices.push("microphone");
      enter({ number, name: seat.name, consents: seat.consents, tracks: new Map(), devices, seat });
      return;
    }
    const room = await api.room(number);
    root.replaceChildren();
    joinPage(root, room, (joining) => {
      root.replaceChildren();
      enter({ number, ...joining, devices: [], seat: null });
    });
  } catch (error) {
    refuse(error instanceof ApiError ? error.code : "internal");
  }
}

/** @param {string} token */
async function becomeHost(token) {
  try {
    await api.becomeHost(number, token);
  } catch (error) {
    // The server does not tell a wrong token from a room that never was.
    const wrong = error instanceof ApiError && (error.status === 401 || error.status === 404);
    throw wrong ? new ApiError("host_link", error.message, error.status) : error;
  }
}

/** @param {Entry} entry */
function enter(entry) {
  const room = new Room(entry);
  exposeForTests(room);
  classroom(root, room);
  room.enter();
}

/** @param {string} code */
function refuse(code) {
  const known = code === "not_found" || code === "bad_number" ? "unknown_room" : code;
  const create = el("a", { class: "button button-primary", t: "create_room", attrs: { href: "/" } });
  const again = button({ t: "try_again", look: "primary", testid: "come-back", click: () => location.reload() });
  const screen = endingScreen(
    { t: "refused_title", text: errorSentence(known), testid: "refused" },
    known === "unknown_room" ? create : again,
  );
  screen.dataset.code = known;
  root.replaceChildren(header(), screen);
}
