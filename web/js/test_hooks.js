// `window.__seodang`: what browser tests read; its shape is documented in `docs/web.md`. It shows, it changes nothing.

/** @import { Room } from "./room.js" */

/** @param {Room} room */
export function exposeForTests(room) {
  Object.defineProperty(window, "__seodang", {
    configurable: true,
    value: Object.freeze({
      version: 1,
      state: () => snapshot(room),
      stats: () => room.media.stats(),
    }),
  });
}

/** @param {Room} room */
function snapshot(room) {
  const layout = room.info ? room.layout() : null;
  return structuredClone({
    phase: room.phase,
    socket: room.socket.state,
    media: room.media.state,
    connection: room.media.number,
    answers: room.media.answers,
    room: room.info?.room ?? null,
    resumed: room.info?.resumed ?? null,
    me: room.info?.you ?? null,
    users: [...room.users.values()],
    local: [...room.local.tracks.keys()],
    slots: [...room.media.slots.values()],
    view: room.media.view,
    generation: room.media.generation,
    page: layout?.page ?? 0,
    pages: layout?.pages ?? 1,
    tiles: layout?.tiles.map((user) => user.participant) ?? [],
    chat: room.chat.lines(),
    unread: room.chat.unread,
    consents: room.consents,
    recording: room.recording,
    quality: room.monitor.quality,
    speaking: [...room.monitor.speaking],
    refusal: room.refusal,
    ending: room.ending,
  });
}
