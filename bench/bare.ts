/** The floor: what node:http alone does with the same requests. It reads the body, and answers with a text of the service's length. */

import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

const DONE = '{"seq":1000000}';
const FOUND = `{"value":"${"a5".repeat(64)}","seq":1000000}`;

const server = createServer((request, response) => {
  const text = request.method === "PUT" ? DONE : FOUND;
  request.on("data", () => {});
  request.on("end", () => {
    response.writeHead(200, { "content-type": "application/json", "content-length": text.length });
    response.end(text);
  });
});
server.listen(0, "127.0.0.1", () => {
  process.stdout.write(`${JSON.stringify({ port: (server.address() as AddressInfo).port })}\n`);
});
