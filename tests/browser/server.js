// The real server as a process of its own: free ports, a data folder of its own, everything on loopback.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

/** What a start may take on a busy machine, in milliseconds. */
const START_LIMIT_MS = 30_000;

const BINARY = process.env.SEODANG_BIN ?? fileURLToPath(new URL("../../target/debug/seodang", import.meta.url));

/** A running server. */
export class Server {
  /**
   * @param {Record<string, string>} settings flags without their hyphens
   * @returns {Promise<Server>}
   */
  static async start(settings = {}) {
    const folder = await mkdtemp(join(tmpdir(), "seodang-browser-"));
    const server = new Server(folder, settings);
    await server.launch("127.0.0.1:0");
    return server;
  }

  /**
   * @param {string} folder
   * @param {Record<string, string>} settings
   */
  constructor(folder, settings) {
    this.folder = folder;
    this.settings = settings;
    this.url = "";
    /** @type {string[]} the last lines of its log, shown when a test fails */
    this.log = [];
    /** @type {import("node:child_process").ChildProcess | null} */
    this.process = null;
  }

  /** @param {string} listen */
  async launch(listen) {
    const settings = {
      listen,
      data: join(this.folder, "data"),
      "media-port": "0",
      "media-addresses": "127.0.0.1",
      ...this.settings,
    };
    const flags = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value]);
    // The server refuses settings it does not know, and this one is the tests' own.
    const { SEODANG_BIN: _, ...env } = process.env;
    const child = spawn(BINARY, ["serve", ...flags], { stdio: ["ignore", "pipe", "pipe"], env });
    this.process = child;
    createInterface({ input: child.stderr }).on("line", (line) => {
      this.log.push(line);
      if (this.log.length > 200) this.log.shift();
    });
    this.url = await new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error("the server printed no address")), START_LIMIT_MS);
      child.once("error", reject);
      child.once("exit", (code) => reject(new Error(`the server ended with ${code}\n${this.log.join("\n")}`)));
      createInterface({ input: child.stdout }).on("line", (line) => {
        const address = line.match(/https?:\/\/[^\s/]+/);
        if (!address) return;
        clearTimeout(timer);
        resolve(address[0]);
      });
    });
  }

  /** Asks it to stop, as a service manager does, and waits until it has. */
  async terminate() {
    const child = this.process;
    this.process = null;
    if (!child || child.exitCode !== null) return;
    child.kill("SIGTERM");
    await once(child, "exit");
  }

  /** Stops it and starts it again at the same address. */
  async restart() {
    await this.terminate();
    await this.launch(new URL(this.url).host);
  }

  /** Stops it and removes its folder. */
  async stop() {
    await this.terminate();
    await rm(this.folder, { recursive: true, force: true });
  }

  /**
   * Creates a room.
   *
   * @param {"meeting" | "seminar"} kind
   * @returns {Promise<{number: string, hostToken: string}>}
   */
  async createRoom(kind) {
    const reply = await fetch(`${this.url}/api/v1/rooms`, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Seodang": "1", Origin: this.url },
      body: JSON.stringify({ title: "산수", name: "Ms Han", kind, listed: true }),
    });
    const body = await reply.json();
    if (!reply.ok) throw new Error(`no room: ${reply.status} ${JSON.stringify(body)}`);
    return { number: body.room.number, hostToken: body.host_token };
  }
}
