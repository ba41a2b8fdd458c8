// SPDX-License-Identifier: Apache-2.0
//
// The same application as app_python.py, under the real Node.js agent: /work/N makes an entry, a local
// and an exit span, and the entry of /leaf/N in a segment of its own. Node's agent reports no logs.
'use strict';

// The agent patches the modules, so it starts before any of them is used.
const { default: agent, ContextManager } = require('skywalking-backend-js');
agent.start();
const http = require('http');

const made = { Entry: 0, Local: 0, Exit: 0 };

function compute() {
  made.Local += 1;
  const span = ContextManager.current.newLocalSpan('compute');
  span.start();
  span.stop();
}

const server = http.createServer((request, response) => {
  made.Entry += 1;
  const [, kind, number] = request.url.split('/');
  if (kind !== 'work') {
    response.end('ok');
    return;
  }
  compute();
  made.Exit += 1;
  // `http.request`, not `http.get`: the agent patches the former, and Node's `get` does not go through it.
  const call = http.request({ host: '127.0.0.1', port: server.address().port, path: `/leaf/${number}` }, (answer) => {
    answer.resume();
    answer.on('end', () => response.end('ok'));
  });
  call.on('error', (error) => {
    response.statusCode = 502;
    response.end(String(error));
  });
  call.end();
});

server.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ port: server.address().port })));

process.on('SIGTERM', async () => {
  await agent.flush();
  console.log(JSON.stringify({ spans: made }));
  process.exit(0);
});
