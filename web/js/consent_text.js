// The notice of recording and captures: which version of its words this page shows.

/** Raise it with every change of the words, together with the server's constant of the same value: it is stored with the answers. */
export const CONSENT_TEXT_VERSION = "2026-11-21";

/** Shown before the room has told its own, in seconds. */
export const USUAL_CAPTURE_PERIOD_S = 10;
