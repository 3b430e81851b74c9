// `/class/{number}`: the way from the address to the join page, and from there, or after a reload, into the class.

import { numberHere, takeHostToken } from "./addresses.js";
import { openCamera, openMicrophone } from "./devices.js";
import { errorSentence } from "./i18n.js";
import { recall, recallSeat } from "./memory.js";
import { ApiError, api } from "./protocol.js";
import { Room } from "./room.js";
import { exposeForTests } from "./test_hooks.js";
import { classroom, loadingScreen } from "./view/classroom.js";
import { el } from "./view/dom.js";
import { endingScreen } from "./view/ending.js";
import { joinPage } from "./view/join.js";
import { button, header } from "./view/parts.js";

/** @import { Entry } from "./room.js" */
/** @import { Seat } from "./memory.js" */
/** @import { Source } from "./protocol/messages.js" */

const number = numberHere();
const hostToken = takeHostToken();
const root = document.body;

void start();

async function start() {
  const seat = recallSeat(number);
  root.replaceChildren(loadingScreen());
  try {
    if (hostToken) await api.becomeHost(number, hostToken);
    if (seat && !hostToken) {
      enter({ number, name: seat.name, consents: seat.consents, tracks: await tracksOf(seat), seat });
      return;
    }
    const room = await api.room(number);
    root.replaceChildren();
    joinPage(root, room, (joining) => {
      root.replaceChildren();
      enter({ number, ...joining, seat: null });
    });
  } catch (error) {
    refuse(error instanceof ApiError ? error.code : "internal");
  }
}

/** @param {Entry} entry */
function enter(entry) {
  const room = new Room(entry);
  exposeForTests(room);
  classroom(root, room);
  room.enter();
}

/**
 * The devices that were on before a reload; one that cannot be had any more stays off.
 *
 * @param {Seat} seat
 * @returns {Promise<Map<Source, MediaStreamTrack>>}
 */
async function tracksOf(seat) {
  /** @type {Map<Source, MediaStreamTrack>} */
  const tracks = new Map();
  const [camera, microphone] = await Promise.allSettled([
    seat.camera ? openCamera(recall("camera")) : null,
    seat.microphone ? openMicrophone(recall("microphone")) : null,
  ]);
  if (camera.status === "fulfilled" && camera.value) tracks.set("camera", camera.value);
  if (microphone.status === "fulfilled" && microphone.value) tracks.set("microphone", microphone.value);
  return tracks;
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
