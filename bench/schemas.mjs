// What a publish of an SDK client costs without a schema, with JSON Schema and with zod. Prints one Markdown table. See
// README.md.
import { once } from 'node:events'
import { WebSocket } from 'ws'
import { Child } from './child.mjs'
import { defaultPlugin } from './cluster.mjs'
import { describeMachine, endByExit } from './machine.mjs'
import { printMarkdown } from './markdown.mjs'
import { format, median } from './numbers.mjs'
import { readOptions } from './options.mjs'
import { startRedis } from './redis.mjs'

const kinds = [
  { id: 'none', name: 'no schema' },
  { id: 'json', name: 'JSON Schema, by Fastify\'s ajv' },
  { id: 'zod', name: 'zod' }
]
/** Publishes in one frame, as SDKs batch them. The next frame is sent when all are answered. */
const BATCH = 16
const WARM_UP_SECONDS = 3

const options = readOptions({ rounds: 5, seconds: 5, plugin: defaultPlugin }, { rounds: 1, seconds: 1 })
/** 128 bytes of JSON. */
const data = { text: 'x'.repeat(85), n: 12_345, tags: ['one', 'two'] }

/** Publishes for this long. Returns how many were answered; throws if one was refused. */
async function publish (socket, seconds) {
  const frame = Array.from({ length: BATCH }, (_, i) => JSON.stringify({ id: i + 2, publish: { channel: 'chat:lobby', data } })).join('\n')
  const until = performance.now() + seconds * 1_000
  let answered = 0
  await new Promise((resolve, reject) => {
    socket.on('message', message => {
      for (const reply of String(message).split('\n')) {
        if (reply.includes('"error"')) reject(new Error(`a publish was refused: ${reply}`))
        if (!reply.includes('"publish"') || ++answered % BATCH > 0) continue
        if (performance.now() < until) socket.send(frame)
        else resolve()
      }
    })
    socket.once('close', () => reject(new Error('the server has closed the connection')))
    socket.send(frame)
  })
  socket.removeAllListeners()
  return answered
}

async function measure ({ id }, redis) {
  const server = new Child('servers/schemas.mjs', { env: { REDIS_URL: redis.url, BENCH_PLUGIN: options.plugin, BENCH_SCHEMA: id } })
  try {
    const socket = new WebSocket(`ws://127.0.0.1:${await server.call('port')}/connection/websocket`)
    await once(socket, 'open')
    socket.send('{"id":1,"connect":{}}')
    await once(socket, 'message')
    await publish(socket, options.quick ? 0.2 : WARM_UP_SECONDS)
    const before = await server.call('figures')
    const startedAt = performance.now()
    const publishes = await publish(socket, options.seconds)
    const seconds = (performance.now() - startedAt) / 1_000
    const after = await server.call('figures')
    socket.close()
    return { cpu: (after.cpu - before.cpu) / publishes, rate: publishes / seconds }
  } finally {
    await server.stop()
  }
}

endByExit()
describeMachine()
const results = kinds.map(kind => ({ kind, rounds: [] }))
const redis = await startRedis()
try {
  for (let round = 1; round <= options.rounds; round++) {
    // Who comes first must not always be the same.
    for (const { kind, rounds } of round % 2 === 1 ? results : results.toReversed()) {
      console.error(`round ${round} of ${options.rounds}: ${kind.name}`)
      rounds.push(await measure(kind, redis))
    }
  }
} finally {
  await redis.stop()
}
printMarkdown(['schema', 'server CPU per publish, us', 'of all rounds', 'publishes/s'], results.map(({ kind, rounds }) => {
  const cpus = rounds.map(({ cpu }) => cpu).sort((a, b) => a - b)
  return [kind.name, median(cpus).toFixed(1), `${cpus[0].toFixed(1)} to ${cpus.at(-1).toFixed(1)}`, format(Math.round(median(rounds.map(({ rate }) => rate))))]
}), 1)
