import Fastify from "fastify";

/** The ceiling: what Fastify does with the same requests when nothing is behind it. */
const app = Fastify({ logger: false });
let last: unknown = { value: "00".repeat(64) };
app.put("/elements/:key", async (request) => {
  last = request.body;
  return last;
});
app.get("/elements/:key", async () => last);
await app.listen({ host: "127.0.0.1", port: 0 });
process.stdout.write(`${JSON.stringify({ port: (app.server.address() as { port: number }).port })}\n`);
