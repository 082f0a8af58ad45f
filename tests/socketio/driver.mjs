// Clients of Socket.IO for the tests: the official one, unmodified. It is told what to do, one JSON line each on stdin, and
// says what happens, one JSON line each on stdout. It ends when its stdin does. `tests/it/support/sio_js.rs` speaks with it.
//
//     node driver.mjs <directory of node_modules>
//
// In:  {"id": 1, "do": "open", "url", "options", "page"?, "me"?} | {"id", "do": "emit", "event": [name, …], "ack"?: number}
//      | {"id", "do": "connect" | "disconnect"}
// Out: {"id", "what": "connect", "transport"} | {"id", "what": "transport", "transport"}
//      | {"id", "what": "event", "name", "arguments"} | {"id", "what": "ack", "ack", "arguments"}
//      | {"id", "what": "disconnect", "reason", "code"?} | {"id", "what": "connect_error", "message", "data"?}
//      | {"id", "what": "shows", "state"}

import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { join } from 'node:path';
import { pages } from './pages.mjs';

const { io } = createRequire(join(process.argv[2], 'x.js'))('socket.io-client');
const sockets = new Map();

function say(id, what, more) {
  process.stdout.write(`${JSON.stringify({ id, what, ...more })}\n`);
}

function open({ id, url, options, page, me }) {
  const socket = io(url, options);
  sockets.set(id, socket);
  const transport = () => socket.io.engine?.transport.name;
  socket.onAny((name, ...args) => say(id, 'event', { name, arguments: args }));
  socket.on('connect', () => say(id, 'connect', { transport: transport() }));
  socket.on('connect_error', (error) => say(id, 'connect_error', { message: error.message, data: error.data }));
  socket.on('disconnect', (reason, details) => say(id, 'disconnect', { reason, code: details?.context?.code }));
  // Each connection has an engine of its own.
  socket.io.on('open', () => {
    socket.io.engine.on('upgrade', () => say(id, 'transport', { transport: transport() }));
  });
  if (page !== undefined) {
    pages[page](socket, me, (state) => say(id, 'shows', { state }));
  }
}

function carryOut(command) {
  const socket = sockets.get(command.id);
  switch (command.do) {
    case 'open':
      return open(command);
    case 'connect':
      return socket.connect();
    case 'disconnect':
      return socket.disconnect();
    case 'emit':
      if (command.ack === undefined) {
        return socket.emit(...command.event);
      }
      return socket.emit(...command.event, (...args) => say(command.id, 'ack', { ack: command.ack, arguments: args }));
    default:
      throw new Error(`no such command: ${command.do}`);
  }
}

const lines = createInterface({ input: process.stdin });
lines.on('line', (line) => carryOut(JSON.parse(line)));
lines.on('close', () => process.exit());
