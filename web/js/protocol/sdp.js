// What the page changes in offers and answers; pure.

/**
 * Asks for retransmission of lost voice: adds `a=rtcp-fb:<opus> nack` to every Opus line that lacks it.
 * Chromium answers and honours it but never offers it by itself.
 *
 * @param {string} sdp an offer with CRLF line ends
 * @returns {string}
 */
export function withOpusNack(sdp) {
  return sdp
    .split(/(?=^m=)/m)
    .map((section) => {
      if (!section.startsWith("m=audio")) return section;
      const payloadType = /^a=rtpmap:(\d+) opus\/48000/im.exec(section)?.[1];
      if (payloadType === undefined) return section;
      const wish = `a=rtcp-fb:${payloadType} nack`;
      if (section.includes(`${wish}\r\n`)) return section;
      return section.replace(new RegExp(`^a=rtpmap:${payloadType} .*\r\n`, "m"), (line) => `${line}${wish}\r\n`);
    })
    .join("");
}

/**
 * Takes the candidates over TCP out of an answer. Chromium now and then prefers one although UDP gets through, and a lost
 * packet then holds up all that follow.
 *
 * @param {string} sdp an answer with CRLF line ends
 * @returns {{sdp: string, overTcp: string[]}} without them, and what they are, each once
 */
export function withoutTcp(sdp) {
  const overTcp = [...sdp.matchAll(/^a=(candidate:\S+ \d+ tcp .*)\r\n/gim)].map((found) => found[1]);
  if (overTcp.length === 0) return { sdp, overTcp };
  return {
    // More may follow.
    sdp: sdp.replace(/^a=(candidate:\S+ \d+ tcp .*|end-of-candidates)\r\n/gim, ""),
    overTcp: [...new Set(overTcp)],
  };
}
