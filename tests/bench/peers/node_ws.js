// The peer: npm `ws` with a Map of rooms, each publication sent to every member of the room.
//   node node_ws.js PORT      subscribers at /subscribe, publishers at /publish
'use strict';
const http = require('http');
const { WebSocket, WebSocketServer } = require('ws');

const rooms = new Map([['room', new Set()]]);
const server = http.createServer();
const sockets = new WebSocketServer({ server, maxPayload: 65536 });

sockets.on('connection', (socket, request) => {
  const room = rooms.get('room');
  socket.on('error', () => {});
  if (request.url === '/subscribe') {
    room.add(socket);
    socket.on('close', () => room.delete(socket));
  } else {
    socket.on('message', (data) => {
      const text = data.toString();
      for (const member of room) if (member.readyState === WebSocket.OPEN) member.send(text);
    });
  }
});
server.listen({ port: Number(process.argv[2]), host: '127.0.0.1', backlog: 4096 });
