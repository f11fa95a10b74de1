// A chat with many rooms on any number of instances: `npm start`, then http://localhost:8080.
// Instances that share a Redis (REDIS_URL) and a secret (TOKEN_SECRET) show the same rooms.
// Without them this process is all there is.
import rateLimit, { normalizeIP } from '@fastify/rate-limit'
import fastifyStatic from '@fastify/static'
import Fastify from 'fastify'
import cloudRunWebSocket, { ClientError } from 'fastify-cloud-run-websocket'
import { jwtVerify, SignJWT } from 'jose'
import { randomBytes } from 'node:crypto'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { cleanTitle, roomName } from './public/room-name.js'

const port = Number(process.env.PORT ?? 8080)
const secret = process.env.TOKEN_SECRET || randomBytes(32).toString('base64url')
const key = Buffer.from(secret)
/** For developers: the page shows behind its "i" which process it is connected to. */
const instance = `${process.env.K_REVISION ?? `port-${port}`}-${randomBytes(2).toString('hex')}`

const DEFAULT_ROOMS = ['general', 'random', 'help']
/** Its history is the list of the rooms that people have made. */
const ROOM_LIST = 'lobby:rooms'
const MAX_TEXT = 2_000
/** Per client address and minute: a page asks for a token when it connects, and then every ten minutes. */
const MAX_TOKENS = 120
/** Rooms that one client address adds to the list within an hour. More may be made, but are not listed. */
const MAX_LISTED_ROOMS = 20
const HOUR = 3_600_000

/** Client address of each connection. */
const addresses = new WeakMap()
/** How many rooms each address has added to the list in this hour. */
const listedBy = new Map()
setInterval(() => listedBy.clear(), HOUR).unref()

const app = Fastify({
  logger: { level: process.env.LOG_LEVEL ?? 'info' },
  // On Cloud Run the one hop before us, Google's front end, names the client. Elsewhere nobody is believed.
  trustProxy: process.env.K_SERVICE === undefined ? false : (_address, hop) => hop === 0
})

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
  fallback: { uniSsePath: false }, // for people whose proxy blocks WebSockets
  token: { secret },
  channels: {
    room: { subscribe: true, publish: true, presence: true, joinLeave: true, history: { size: 100, ttl: '1d' }, publishLimit: { max: 50, timeWindow: '10s' } },
    typing: { subscribe: true, publish: true, publishLimit: { max: 10, timeWindow: '10s' } },
    lobby: { subscribe: true, history: { size: 100, ttl: '7d' } }
  },
  onConnect (connection, request) {
    addresses.set(connection, normalizeIP(request.ip))
    return { data: { instance, rooms: DEFAULT_ROOMS } }
  },
  onSubscribe,
  onPublish
})

// After the plugin, which has a limit of its own for connections.
await app.register(rateLimit, { global: false })

/** Everybody may take any name here. Yours knows who it is, by a session for example, and signs only that. */
const tokenRequest = {
  type: 'object',
  required: ['name'],
  properties: { name: { type: 'string', pattern: '^(?!\\s)[^\\p{C}]{1,32}(?<!\\s)$' }, token: { type: 'string' } }
}

app.post('/token', { schema: { body: tokenRequest }, config: { rateLimit: { max: MAX_TOKENS, timeWindow: '1m' } } }, async ({ body: { name, token } }) => {
  const user = await userOf(token)
  const signed = new SignJWT({ info: { name } }).setProtectedHeader({ alg: 'HS256' }).setSubject(user).setExpirationTime('10m')
  return { user, token: await signed.sign(key) }
})

/** Who brings a token of ours, up to 30 days after it has expired, is the same person as before. */
async function userOf (token = '') {
  try {
    const { payload } = await jwtVerify(token, key, { clockTolerance: '30d' })
    return payload.sub
  } catch {
    return randomBytes(12).toString('base64url')
  }
}

/** Who opens a room that nobody has listed yet brings its title along. */
async function onSubscribe (connection, channel, { data }) {
  if (channel === ROOM_LIST) return
  const room = checkRoom(channel)
  if (channel.startsWith('typing:')) return
  const { publications } = await app.realtime.history(ROOM_LIST)
  if (DEFAULT_ROOMS.includes(room) || publications.some(({ data }) => data.room === room)) return
  const address = addresses.get(connection)
  const count = listedBy.get(address) ?? 0
  // Whoever makes rooms without end would push all others out of the list.
  if (count === MAX_LISTED_ROOMS) return
  listedBy.set(address, count + 1)
  await app.realtime.publish(ROOM_LIST, { room, title: titleOf(room, data) })
}

/** Only a title that makes this room, so that no room can look like another one. */
function titleOf (room, data) {
  const title = typeof data?.title === 'string' ? cleanTitle(data.title) : room
  return roomName(title) === room ? title : room
}

/** Nothing from outside is trusted: what is published is ours, with the author that the token names. */
function onPublish ({ user, info: { name } }, channel, data) {
  checkRoom(channel)
  if (channel.startsWith('typing:')) return { data: { user, name } }
  const { id, text } = data ?? {}
  check(typeof id === 'string' && /^[\w-]{1,64}$/.test(id), 'id must be 1 to 64 letters, digits, - or _')
  check(typeof text === 'string' && text.trim() !== '' && text.length <= MAX_TEXT, `text must be 1 to ${MAX_TEXT} characters`)
  // The page sends a message again when it does not know whether it arrived; the key makes that harmless.
  return { data: { id, user, name, text, time: Date.now() }, idempotencyKey: `${user} ${id}` }
}

/** Two channels for each room: what is said in it, and who is typing. */
function checkRoom (channel) {
  const [, room] = /^(?:room|typing):([\p{Ll}\p{Lo}\p{M}\p{N}_-]{1,32})$/u.exec(channel) ?? []
  check(room !== undefined, 'room must be 1 to 32 small letters, digits, - or _')
  return room
}

/** The client is told no other error than this one. */
function check (ok, message) {
  if (!ok) throw new ClientError(400, message)
}

try {
  await app.listen({ port, host: '0.0.0.0' })
} catch (error) {
  if (error.code !== 'EADDRINUSE') throw error
  console.error(`Port ${port} is in use. Choose another one: PORT=${port + 1} npm start`)
  process.exit(1)
}
