// node ws, one raw stream. NODE_EXTRA_CA_CERTS is read when the process starts.
const WebSocket = require("ws");

const option = (name) => process.argv[process.argv.indexOf(name) + 1];
const count = Number(option("--count"));
const raw = [];
const socket = new WebSocket(`${option("--ws")}/ws/btcusdt@aggTrade`, {
  perMessageDeflate: process.argv.includes("--deflate"),
});
socket.on("message", (data) => {
  raw.push(data.toString());
  if (raw.length === count) {
    process.stdout.write(JSON.stringify({ raw, trades: null }), () => process.exit(0));
  }
});
