// Everything that speaks to the server: the WebSocket, the media connection and the HTTP API.
// No DOM here; `room.js` builds its state on this, and the views build on `room.js`.

export { watchNetwork } from "./protocol/network.js";
export { Socket } from "./protocol/socket.js";
export { Connection, PAGE_SLOTS, SCREEN_SLOTS } from "./protocol/connection.js";
export { ApiError, api } from "./protocol/http.js";
export { summarise } from "./protocol/stats.js";
