// Check the signature, publish to JetStream, await its answer, 200: what people write by hand. No store, no dedupe.
import { createHash, timingSafeEqual } from "node:crypto";
import express from "express";
import { connect } from "nats";

const { NATS_URL, SECRET, STREAM } = process.env;
const { hostname, port, username, password } = new URL(NATS_URL);
const nats = await connect({ servers: `${hostname}:${port}`, user: username, pass: password });
await (await nats.jetstreamManager()).streams.add({ name: STREAM, subjects: [`${STREAM}.>`] });
const jetstream = nats.jetstream();

const app = express();
app.post("/webhooks/e2b", express.raw({ type: "application/json" }), async (request, response) => {
  const expected = createHash("sha256").update(SECRET).update(request.body).digest();
  const given = Buffer.from(request.get("e2b-signature") ?? "", "base64");
  if (given.length !== expected.length || !timingSafeEqual(given, expected)) {
    return response.status(401).json({ success: false });
  }
  const event = JSON.parse(request.body);
  await jetstream.publish(`${STREAM}.${event.type}`, request.body, { msgID: event.id });
  response.json({ success: true, id: event.id });
});
const server = app.listen(0, "127.0.0.1", () => {
  console.log(`listening on 127.0.0.1:${server.address().port}`);
});
