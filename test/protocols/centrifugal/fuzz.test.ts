import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import t from 'tap'
import WebSocket from 'ws'
import { commandSchema } from '../../../lib/protocols/centrifugal/schema.ts'
import type { Field, FieldType, Schema } from '../../../lib/protocols/centrifugal/schema.ts'
import type { Codec } from '../../../lib/protocols/centrifugal/codec.ts'
import { jsonCodec } from '../../../lib/protocols/centrifugal/json-codec.ts'
import { protobufCodec } from '../../../lib/protocols/centrifugal/protobuf-codec.ts'
import { startApp } from '../../helpers/app.ts'
import { sdkClient } from '../../helpers/sdk.ts'
import type { Encoding } from '../../helpers/sdk.ts'
import { encodeCommands, sdkCodec } from '../../helpers/sdk-codec.ts'
import { until } from '../../helpers/until.ts'
import { connect } from '../../helpers/ws-client.ts'
import type { Client } from '../../helpers/ws-client.ts'

/** FUZZ_SEED gives other inputs, FUZZ_RUNS more of them. */
const seed = Number(process.env.FUZZ_SEED ?? 20_261_124)
const effort = Number(process.env.FUZZ_RUNS ?? 1)
const DECODER_RUNS = 6_000 * effort
const LIVE_RUNS = 80 * effort
/** Bytes that the heap may have grown by for reasons of its own: compiled code, test results. */
const HEAP_SLACK = 16 * 1024 * 1024

const codecs: Record<Encoding, Codec> = { json: jsonCodec, protobuf: protobufCodec }

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

/** mulberry32: the same numbers for the same seed, everywhere. */
class Random {
  #state: number

  constructor (state: number) {
    this.#state = state
  }

  /** 0 to 1. */
  next (): number {
    this.#state = this.#state + 0x6d2b79f5 | 0
    let x = Math.imul(this.#state ^ this.#state >>> 15, 1 | this.#state)
    x = x + Math.imul(x ^ x >>> 7, 61 | x) ^ x
    return ((x ^ x >>> 14) >>> 0) / 2 ** 32
  }

  below (n: number): number { return Math.floor(this.next() * n) }
  chance (share: number): boolean { return this.next() < share }
  pick<T> (list: readonly T[]): T { return list[this.below(list.length)]! }
  bytes (n: number): Buffer { return Buffer.from(Array.from({ length: n }, () => this.below(256))) }
}

const texts = ['', 'a', 'chat:a', 'chat:b', 'good:a', 'x'.repeat(256), 'ü€😀', '__proto__', 'constructor', '\u0000control', '\ud800', 'line\nfeed', '{"a":1}', 'fossil', '#ann']
const numbers = [0, 1, -1, 2, 4, 127, 128, 2 ** 31 - 1, -(2 ** 31), 2 ** 32 - 1, 2 ** 53 - 1]
const values = [null, 0, 'x', true, [], {}, { a: { b: [1, { c: null }] } }, [[[[]]]], 'ü'.repeat(100), 1e300, -0]

function randomValue (random: Random, name: string, type: FieldType): unknown {
  // Else most of them would end the connection.
  if (name === 'channel' && random.chance(0.95)) return random.pick(['chat:a', 'chat:b', 'a', 'good:a', 'nowhere:a'])
  if (name === 'op') return random.pick(['', '', 'and', 'or', 'not', 'xor'])
  if (name === 'cmp') return random.pick(['eq', 'in', 'ex', 'nex', 'gt', 'no'])
  if (name === 'delta') return random.pick(['', 'fossil', 'fossil', 'vcdiff'])
  if (typeof type === 'object') return randomMessage(random, type)
  if (type === 'data') return random.pick(values)
  if (type === 'bool') return random.chance(0.5)
  if (type === 'string') return random.pick(texts)
  const number = random.pick(numbers)
  return type.startsWith('u') ? Math.abs(number) : type === 'int32' ? number | 0 : number
}

function randomMessage (random: Random, schema: Schema): Record<string, unknown> {
  const fields = Object.entries(schema).filter(([name]) => random.chance(name === 'channel' ? 0.95 : 0.5))
  return Object.fromEntries(fields.map(([name, field]) => [name, randomField(random, name, field)]))
}

function randomField (random: Random, name: string, { type, many }: Field): unknown {
  if (many === undefined) return randomValue(random, name, type)
  if (many === 'list') return Array.from({ length: random.below(4) }, () => randomValue(random, name, type))
  return Object.fromEntries(Array.from({ length: random.below(4) }, () => [random.pick(texts), randomValue(random, '', type)]))
}

/** Of a connected client; a refresh always ends it here, where there are no tokens. */
const { id: _id, connect: _connect, refresh: _refresh, ...requests } = commandSchema

/** What an SDK could send, with ids that follow each other. */
function randomCommand (random: Random, id: number, schema: Schema = requests): Record<string, unknown> {
  const name = random.pick(Object.keys(schema))
  return { ...(name !== 'send' && { id }), [name]: randomField(random, name, schema[name]!) }
}

function encode (encoding: Encoding, commands: object[]): Buffer {
  const frame = encodeCommands(encoding, commands)
  return typeof frame === 'string' ? Buffer.from(frame) : frame
}

/** Bytes that mean something in one of the encodings: ends of varints, tags, quotes, brackets. */
const telling = [0x00, 0x01, 0x08, 0x0a, 0x1b, 0x22, 0x2c, 0x3a, 0x5b, 0x5d, 0x7b, 0x7d, 0x7f, 0x80, 0xff]
const inserts = [
  Buffer.from([0xff, 0xff, 0xff, 0xff, 0x0f]), Buffer.from([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
  Buffer.alloc(12, 0xff), Buffer.alloc(20, 0x80),
  Buffer.from('\n'), Buffer.from('{}'), Buffer.from('null'), Buffer.from('-1'), Buffer.from('1e999'), Buffer.from('"__proto__":{'), Buffer.alloc(3_000, '['), Buffer.alloc(3_000, 0x1b), Buffer.from([0xed, 0xa0, 0x80])
]

function mutate (random: Random, frame: Buffer, other: Buffer): Buffer {
  const at = random.below(frame.length + 1)
  const to = at + random.below(frame.length - at + 1)
  switch (random.below(8)) {
    case 0: return frame.subarray(0, at)
    case 1: return frame.subarray(at)
    case 2: return Buffer.concat([frame.subarray(0, at), frame.subarray(to)])
    case 3: return Buffer.concat([frame.subarray(0, to), frame.subarray(at)])
    case 4: return Buffer.concat([frame.subarray(0, at), other.subarray(random.below(other.length + 1))])
    case 5: return Buffer.concat([frame.subarray(0, at), random.pick(inserts), frame.subarray(random.chance(0.5) ? at : to)])
    case 6: return Buffer.concat([frame, other])
    default: {
      const copy = Buffer.from(frame)
      for (let n = 1 + random.below(4); n > 0 && copy.length > 0; n--) {
        copy[random.below(copy.length)] = random.chance(0.5) ? random.pick(telling) : random.below(256)
      }
      return copy
    }
  }
}

function randomFrame (random: Random, encoding: Encoding, schema: Schema): Buffer {
  if (random.chance(0.1)) return random.bytes(random.below(200))
  const make = () => encode(encoding, Array.from({ length: 1 + random.below(3) }, (_, i) => randomCommand(random, i + 1, schema)))
  let frame = make()
  for (let n = random.below(3); n > 0; n--) frame = mutate(random, frame, make())
  return frame.subarray(0, 65_536)
}

const extremes: Record<Encoding, Buffer[]> = {
  json: [
    '['.repeat(60_000), '{"a":'.repeat(12_000), `{"id":1,"rpc":{"data":${'['.repeat(30_000)}${']'.repeat(30_000)}}}`, '{}\n'.repeat(20_000), '\n'.repeat(60_000), '{"id":1}\n'.repeat(7_000),
    `{"id":${'9'.repeat(60_000)}}`, `{"id":1,"connect":{"headers":{${Array.from({ length: 5_000 }, (_, i) => `"${i}":""`).join()}}}}`, `"${'\\u0000'.repeat(10_000)}"`
  ].map(text => Buffer.from(text)),
  protobuf: [
    Buffer.alloc(65_536), Buffer.alloc(65_536, 0xff), Buffer.alloc(65_536, 0x80), Buffer.alloc(65_536, 0x1b),
    Buffer.from([0xff, 0xff, 0xff, 0xff, 0x0f]), Buffer.from([0xff, 0xff, 0xff, 0xff, 0x07, 1]),
    // A group in a group in a group, for a field that nobody knows, in one message that is as long as it says.
    Buffer.concat([Buffer.from([0xe0, 0xd4, 0x03]), Buffer.alloc(60_000, 0x1b)]),
    Buffer.concat([Buffer.from([0xe0, 0xd4, 0x03]), Buffer.alloc(30_000, 0x1b), Buffer.alloc(30_000, 0x1c)])
  ]
}

/** Throws for what is not as the schema says. */
function checkForm (message: any, schema: Schema): void {
  for (const [name, value] of Object.entries(message)) {
    const field = schema[name]
    if (field === undefined) throw new Error(`unknown field ${name}`)
    if (field.many === 'list' && !Array.isArray(value)) throw new Error(`${name} is no list: ${JSON.stringify(value)}`)
    const members = field.many === undefined ? [value] : Object.values(value as object)
    for (const member of members) checkType(name, member, field.type)
  }
}

function checkType (name: string, value: any, type: FieldType): void {
  if (typeof type === 'object') return checkForm(value, type)
  const right = type === 'data'
    ? 'value' in value || Buffer.isBuffer(value.bytes)
    : type === 'bool' ? typeof value === 'boolean' : type === 'string' ? typeof value === 'string' : Number.isInteger(value) && (!type.startsWith('u') || value >= 0)
  if (!right) throw new Error(`${name} is no ${type}: ${JSON.stringify(value)}`)
}

function heapUsed (): number {
  collectGarbage()
  return process.memoryUsage().heapUsed
}

for (const encoding of ['json', 'protobuf'] as const) {
  t.test(`whatever comes, the ${encoding} decoder gives commands in the right form or throws an error`, async (t) => {
    const random = new Random(seed)
    const codec = codecs[encoding]
    const outcomes = { read: 0, refused: 0 }
    const decode = (frame: Buffer, name: string) => {
      let commands: object[] = []
      try {
        commands = codec.decode(frame)
        outcomes.read++
      } catch (error) {
        outcomes.refused++
        if (!(error instanceof Error)) t.fail(`${name}: threw ${String(error)}`)
      }
      try {
        for (const command of commands) checkForm(command, commandSchema)
      } catch (error) {
        t.fail(`${name}: ${String(error)}`, { frame: frame.toString('hex') })
      }
    }
    for (const [i, frame] of extremes[encoding].entries()) decode(frame, `extreme ${i}`)
    let before = 0
    for (let run = 0; run < DECODER_RUNS && t.passing(); run++) {
      if (run === DECODER_RUNS / 4) before = heapUsed()
      decode(randomFrame(random, encoding, commandSchema), `seed ${seed}, run ${run}`)
    }
    const grown = heapUsed() - before
    t.ok(grown < HEAP_SLACK, `the heap has grown by ${grown} bytes`)
    t.ok(outcomes.read > DECODER_RUNS / 20 && outcomes.refused > DECODER_RUNS / 20, `both happened: ${JSON.stringify(outcomes)}`)
    t.equal(({} as any).a, undefined)
  })
}

/**
 * Codes with which a client that sends anything may be closed: those of the protocol, and those of `ws` for bad UTF-8
 * and too much.
 */
const CLOSES = new Set([3500, 3501, 3508, 1007, 1009])

for (const encoding of ['json', 'protobuf'] as const) {
  t.test(`whatever comes over a live ${encoding} connection is answered or ends it by the rules, and disturbs nobody else`, async (t) => {
    const logs: any[] = []
    const rejections: unknown[] = []
    const note = (reason: unknown) => { rejections.push(reason) }
    process.on('unhandledRejection', note)
    t.teardown(() => process.off('unhandledRejection', note))
    const open = { subscribe: true, publish: true, presence: true, joinLeave: true, history: { size: 10, ttl: '1m' } }
    const { app, url } = await startApp(t, {
      rateLimit: false,
      channels: { '': open, chat: { ...open, tagsFilter: true, compaction: true }, good: { subscribe: true } },
      onMessage: () => {},
      onRpc: (_connection, method, data) => [method, typeof data]
    }, { logger: { level: 'warn', stream: { write: line => { logs.push(JSON.parse(line)) } } } })
    const good = sdkClient(t, url, encoding === 'json' ? 'protobuf' : 'json')
    const subscription = await good.subscribe('good:a').subscribed()

    const random = new Random(seed)
    let client: Client | undefined
    let nextId = 0
    const outcomes: Record<string, number> = {}
    const closed = () => client!.socket.readyState === WebSocket.CLOSED
    const send = (frame: Buffer) => client!.socket.send(frame, { binary: encoding === 'protobuf' })
    const replies = () => client!.messages.flatMap(message => typeof message === 'string' ? message.split('\n').map(line => JSON.parse(line)) : sdkCodec.decodeReplies(message))
    const ids = () => replies().map(({ id }) => id)
    const begin = async () => {
      client = await connect(t, `${url}/connection/websocket`, encoding === 'protobuf' ? { protocols: 'centrifuge-protobuf' } : {})
      send(encode(encoding, [{ id: 900_000_000, connect: {} }]))
      await until(() => client!.messages.length === 1, 'the reply to connect')
    }
    const end = async (name: string) => {
      const { code, reason } = await client!.closed
      outcomes[code] = (outcomes[code] ?? 0) + 1
      if (!CLOSES.has(code) || (code >= 3000 && reason === '')) t.fail(`${name}: closed with ${code} '${reason}'`)
      client = undefined
    }
    /** Whatever it did, the server either closes, or still answers. */
    const probe = async (name: string) => {
      const id = 900_000_001 + nextId++
      send(encode(encoding, [{ id, ping: {} }]))
      await until(() => closed() || ids().includes(id), `${name}: an answer or the end`, 30_000)
      if (closed()) return end(name)
      outcomes.answered = (outcomes.answered ?? 0) + 1
    }
    const bytesOf = async (frame: Buffer, name: string) => {
      if (client === undefined || client.messages.length > 200) {
        client?.socket.terminate()
        await begin()
      }
      send(frame)
      await probe(name)
    }

    for (const [i, frame] of extremes[encoding].entries()) await bytesOf(frame, `extreme ${i}`)
    for (let run = 0; run < LIVE_RUNS && t.passing(); run++) {
      await bytesOf(randomFrame(random, encoding, random.chance(0.1) ? commandSchema : requests), `seed ${seed}, run ${run}`)
    }
    // In a frame that is in order every command gets one answer.
    for (let run = 0; run < LIVE_RUNS && t.passing(); run++) {
      const name = `seed ${seed}, run ${run} of commands in order`
      client ?? await begin()
      const commands = Array.from({ length: 1 + random.below(5) }, () => randomCommand(random, ++nextId))
      const wanted = commands.map(({ id }) => id).filter(id => id !== undefined)
      send(encode(encoding, commands))
      await until(() => closed() || wanted.every(id => ids().includes(id)), `${name}: all answers, or the end, of ${JSON.stringify(commands)}`, 30_000)
      if (closed()) {
        await end(name)
        continue
      }
      const got = ids()
      outcomes.inOrder = (outcomes.inOrder ?? 0) + 1
      const twice = wanted.filter(id => got.indexOf(id) !== got.lastIndexOf(id))
      if (twice.length > 0) t.fail(`${name}: two answers to one command`)
      if (client!.messages.length > 200) {
        client!.socket.terminate()
        client = undefined
      }
    }
    client?.socket.terminate()
    client = undefined

    await app.realtime.publish('good:a', 'still here')
    await subscription.arrived(1)
    t.strictSame(subscription.data, ['still here'])
    t.equal(good.events.connected.length, 1)
    await until(() => [...app.realtime.connections].length === 1, 'nothing is left of the others but the good one')
    await until(async () => (await app.realtime.info())[0]?.channels === 1, 'nor of their channels')
    t.strictSame(rejections, [])
    t.strictSame(logs.filter(({ level }) => level >= 50), [], 'what a client causes is no error')
    t.ok(outcomes.answered! > LIVE_RUNS / 10 && outcomes.inOrder! > LIVE_RUNS / 2 && outcomes[3501]! > LIVE_RUNS / 10, `all three happened: ${JSON.stringify(outcomes)}`)
    t.comment(JSON.stringify(outcomes))
  })
}
