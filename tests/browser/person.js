// A person in a browser: a context of its own (cookies, storage) with one class page.

import assert from "node:assert/strict";

import { chromium } from "playwright-core";

/** What anything a test waits for may take on two busy cores, in milliseconds. */
export const PATIENCE_MS = 30_000;

/** Eight cameras with so many pictures a second have to fit on two cores. */
const PICTURES_A_SECOND = 8;

const FLAGS = [
  "--use-fake-ui-for-media-stream",
  "--autoplay-policy=no-user-gesture-required",
  // The server's test configuration offers loopback alone.
  "--allow-loopback-in-peer-connection",
  "--disable-features=WebRtcHideLocalIpsWithMdns",
  "--auto-select-desktop-capture-source=Entire screen",
  "--no-sandbox",
];

/**
 * Chromium, whose picture is a moving test card, and its sound a beep a second.
 *
 * @param {number} [picturesASecond]
 * @returns {Promise<import("playwright-core").Browser>}
 */
export function openBrowser(picturesASecond = PICTURES_A_SECOND) {
  const args = [...FLAGS, `--use-fake-device-for-media-stream=fps=${picturesASecond}`];
  return chromium.launch({ executablePath: process.env.CHROMIUM_BIN ?? "/usr/bin/chromium", args });
}

/** Somebody in a class. */
export class Person {
  /**
   * Opens the class page and joins, with camera and microphone unless told otherwise.
   *
   * @param {import("playwright-core").Browser} browser
   * @param {import("./server.js").Server} server
   * @param {{number: string, hostToken?: string}} room with a token: as host
   * @param {string} name
   * @param {{media?: boolean, script?: (argument: string) => void, argument?: string}} options `script` runs before the page's own
   * @returns {Promise<Person>}
   */
  static async join(browser, server, room, name, { media = true, script, argument } = {}) {
    const person = await Person.arrive(browser, server, room, name, script, argument);
    await person.setDevices(media);
    await person.enter();
    return person;
  }

  /**
   * Opens the class page and stops before joining.
   *
   * @param {import("playwright-core").Browser} browser
   * @param {import("./server.js").Server} server
   * @param {{number: string, hostToken?: string}} room
   * @param {string} name
   * @param {(argument: string) => void} [script]
   * @param {string} [argument] of the script
   */
  static async arrive(browser, server, room, name, script, argument) {
    const context = await browser.newContext({ locale: "en-GB", permissions: ["camera", "microphone"] });
    if (script) await context.addInitScript(script, argument);
    const person = new Person(context, await context.newPage(), name);
    person.page.setDefaultTimeout(PATIENCE_MS);
    const host = room.hostToken ? `#host=${room.hostToken}` : "";
    await person.page.goto(`${server.url}/class/${room.number}${host}`);
    await person.part("join-page").waitFor();
    await person.part("name").fill(name);
    return person;
  }

  /**
   * @param {import("playwright-core").BrowserContext} context
   * @param {import("playwright-core").Page} page
   * @param {string} name
   */
  constructor(context, page, name) {
    this.context = context;
    this.page = page;
    this.name = name;
    /** @type {string[]} */
    this.trouble = [];
    page.on("pageerror", (error) => this.trouble.push(`${name}: ${error.stack ?? error}`));
  }

  /**
   * Switches both devices of the preview on or off; the page opens them by itself at first.
   *
   * @param {boolean} on
   */
  async setDevices(on) {
    for (const device of ["camera", "microphone"]) {
      const button = this.part(`preview-${device}`);
      await this.page.waitForFunction(
        (testid) => document.querySelector(`[data-testid=${testid}]`)?.getAttribute("aria-pressed") === "true",
        `preview-${device}`,
      );
      if (on) continue;
      await button.click();
      await this.page.waitForFunction(
        (testid) => document.querySelector(`[data-testid=${testid}]`)?.getAttribute("aria-pressed") === "false",
        `preview-${device}`,
      );
    }
  }

  /** Presses the join button and waits for the seat and the media. */
  async enter() {
    await this.part("join").click();
    await this.until("a seat and media", (state) => state.phase === "in" && state.media === "connected");
  }

  /** @param {string} testid */
  part(testid) {
    return this.page.locator(`[data-testid="${testid}"]`).first();
  }

  /** @returns {Promise<any>} what the page knows */
  state() {
    return this.page.evaluate(() => /** @type {any} */ (window).__seodang.state());
  }

  /** @returns {Promise<any>} what the media connection measured */
  stats() {
    return this.page.evaluate(() => /** @type {any} */ (window).__seodang.stats());
  }

  /** @returns {Promise<string>} its participant id */
  async id() {
    return (await this.state()).me.participant;
  }

  /**
   * Waits until the page's state is as wanted.
   *
   * @param {string} what
   * @param {(state: any) => boolean} wanted
   * @param {number} [limitMs]
   * @returns {Promise<any>}
   */
  until(what, wanted, limitMs) {
    return until(`${this.name}: ${what}`, async () => {
      const state = await this.page
        .evaluate(() => /** @type {any} */ (window).__seodang?.state() ?? null)
        // A page that is being loaded has no state.
        .catch(() => null);
      return state && wanted(state) ? state : undefined;
    }, limitMs);
  }

  /**
   * Waits until this browser decodes pictures and sound of somebody: frames and audio energy rise, the size is not zero.
   *
   * @param {Person} other
   * @param {"camera" | "screen"} [source]
   */
  async seesAndHears(other, source = "camera") {
    await this.sees(other, source);
    await this.hears(other);
  }

  /**
   * @param {Person} other
   * @param {"camera" | "screen"} [source]
   */
  async sees(other, source = "camera") {
    const id = await other.id();
    const first = await this.slot(`sees ${other.name}`, id, source, (slot) => slot.frames_decoded > 0 && slot.frame_width > 0);
    await this.slot(`goes on seeing ${other.name}`, id, source, (slot) => slot.frames_decoded >= first.frames_decoded + 5);
    await until(`${this.name}: the tile of ${other.name} moves`, () =>
      this.page.evaluate(
        ([participant, kind]) => {
          const tile = document.querySelector(
            `[data-testid=tile][data-participant="${participant}"][data-source="${kind}"] video, [data-testid=stage] [data-participant="${participant}"][data-source="${kind}"] video`,
          );
          return tile instanceof HTMLVideoElement && tile.videoWidth > 0 && tile.currentTime > 0 && !tile.paused;
        },
        [id, source],
      ),
    );
  }

  /** @param {Person} other */
  async hears(other) {
    const id = await other.id();
    const first = await this.slot(`hears ${other.name}`, id, "microphone", (slot) => slot.audio_energy > 0);
    await this.slot(`goes on hearing ${other.name}`, id, "microphone", (slot) => slot.audio_energy > first.audio_energy);
  }

  /**
   * @param {string} what
   * @param {string} participant
   * @param {string} source
   * @param {(slot: any) => boolean} wanted
   */
  slot(what, participant, source, wanted) {
    return until(`${this.name}: ${what}`, async () => {
      const stats = await this.stats();
      return stats?.slots.find(
        (/** @type {any} */ slot) => slot.participant === participant && slot.source === source && wanted(slot),
      );
    });
  }

  /** @param {string} text */
  async says(text) {
    if (!(await this.part("chat-panel").isVisible())) await this.part("chat-button").click();
    await this.part("chat-input").fill(text);
    await this.part("chat-send").click();
  }

  /** @returns {Promise<string[]>} the lines as shown */
  async linesShown() {
    if (!(await this.part("chat-panel").isVisible())) await this.part("chat-button").click();
    return this.page.locator('[data-testid="chat-text"]').allTextContents();
  }

  /** Closes the window, as a person does who has had enough. */
  async closeWindow() {
    await this.page.close();
  }

  /** Ends it all at the end of a test. */
  async close() {
    await this.context.close();
  }
}

/** @param {number} ms */
export const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * Asks again until there is something, and fails after the limit.
 *
 * @template T
 * @param {string} what
 * @param {() => Promise<T | undefined | false | null>} ask
 * @param {number} [limitMs]
 * @returns {Promise<T>}
 */
export async function until(what, ask, limitMs = PATIENCE_MS) {
  const end = Date.now() + limitMs;
  for (;;) {
    const found = await ask();
    if (found) return found;
    if (Date.now() > end) assert.fail(`within ${limitMs / 1000} s it did not come true: ${what}`);
    await wait(50);
  }
}

/**
 * Everyone sees and hears everyone else.
 *
 * @param {Person[]} people
 */
export async function allSeeAndHearAll(people) {
  await Promise.all(
    people.map(async (watcher) => {
      for (const other of people) if (other !== watcher) await watcher.seesAndHears(other);
    }),
  );
}
