// Answers of a language model, as they are written, on any number of instances: `npm run build`, then
// `node example/tokens/server.mjs`, then http://localhost:8080. The model is a stand-in, so it needs no key.
import fastifyStatic from '@fastify/static'
import Fastify from 'fastify'
import cloudRunWebSocket, { ClientError } from 'fastify-cloud-run-websocket'
import { randomUUID } from 'node:crypto'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { model } from './model.mjs'

const port = Number(process.env.PORT ?? 8080)
const MAX_QUESTION = 500

const app = Fastify({ logger: { level: process.env.LOG_LEVEL ?? 'info' } })

await app.register(fastifyStatic, {
  root: join(import.meta.dirname, 'public'),
  logLevel: 'warn',
  setHeaders (reply) {
    reply.header('content-security-policy', "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
    reply.header('x-content-type-options', 'nosniff')
  }
})
const sdk = join(dirname(fileURLToPath(import.meta.resolve('centrifuge'))), '../dist')
app.get('/centrifuge.js', { logLevel: 'warn' }, (request, reply) => reply.sendFile('centrifuge.js', sdk))

await app.register(cloudRunWebSocket, {
  path: false,
  channels: { talk: { subscribe: true, stream: true, history: { size: 1_000, ttl: '1h' } } },
  methods: { 'talk.ask': { handler: ask }, 'talk.stop': { handler: stop }, 'talk.resume': { handler: resume } }
})

/** The question is a stream that is complete at once, so that who comes late gets it like the answers. */
async function ask (connection, { channel, question } = {}) {
  checkChannel(channel)
  check(typeof question === 'string' && question.trim() !== '' && question.length <= MAX_QUESTION, `question must be 1 to ${MAX_QUESTION} characters`)
  const id = randomUUID()
  await app.realtime.stream(channel, [question], { id: `q-${id}` })
  answer(channel, id, question)
  return { id }
}

async function stop (connection, { channel, id } = {}) {
  checkChannel(channel)
  await app.realtime.stopStream(channel, `a-${checkId(id)}`)
  return {}
}

/** A page asks for this when an answer was interrupted. All pages that show it may ask: one call has it, no other. */
async function resume (connection, { channel, id } = {}) {
  checkChannel(channel)
  checkId(id)
  const { publications } = await app.realtime.history(channel)
  const parts = publications.map(({ data }) => data)
  const question = parts.findLast(({ stream }) => stream === `q-${id}`)?.text
  const { end } = parts.findLast(({ stream }) => stream === `a-${id}`) ?? {}
  check(question !== undefined, 'there is no such question')
  if (end === undefined || end === 'interrupted') answer(channel, id, question, true)
  return {}
}

/** Nobody waits for it: it goes on when the client that has asked is gone. */
async function answer (channel, id, question, resume = false) {
  try {
    const { end, text } = await app.realtime.stream(channel, (text, signal) => model(question, text, signal), { id: `a-${id}`, resume })
    app.log.info({ channel, id, end, length: text.length }, 'answered')
  } catch (error) {
    if (error.code === 'FST_CRWS_STREAM_TAKEN') return
    app.log.warn({ channel, id, err: error }, 'not answered')
  }
}

function checkChannel (channel) {
  check(typeof channel === 'string' && /^talk:[\w-]{1,64}$/.test(channel), 'channel must be talk: and 1 to 64 letters, digits, - or _')
}

function checkId (id) {
  check(typeof id === 'string' && /^[\w-]{1,36}$/.test(id), 'id must be the id of a question')
  return id
}

/** The client is told no other error than this one. */
function check (ok, message) {
  if (!ok) throw new ClientError(400, message)
}

await app.listen({ port, host: '0.0.0.0' })
