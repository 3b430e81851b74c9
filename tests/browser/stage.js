// What the tests of a file share: a server, a browser, and the people of the test at hand.

import assert from "node:assert/strict";
import { after, afterEach, before } from "node:test";

import { openBrowser } from "./person.js";
import { Server } from "./server.js";

/** @type {import("playwright-core").Browser} */
export let browser;
/** @type {Server} */
export let server;
/**
 * Whoever is put here is gone after the test.
 *
 * @type {import("./person.js").Person[]}
 */
export const people = [];

/**
 * Starts server and browser before the tests of the file and ends them afterwards. No page may have thrown in a test.
 *
 * @param {Record<string, string>} [settings] of the server
 */
export function setStage(settings) {
  before(async () => {
    server = await Server.start(settings);
    browser = await openBrowser();
  });

  after(async () => {
    await browser?.close();
    await server?.stop();
  });

  afterEach(async () => {
    const here = people.splice(0);
    const trouble = here.flatMap((person) => person.trouble);
    await Promise.all(here.map((person) => person.close()));
    assert.deepEqual(trouble, [], "a page threw");
  });
}
