import protobuf from 'protobufjs/minimal.js'
import t from 'tap'
import { commandSchema, replySchema } from '../../../lib/protocols/centrifugal/schema.ts'
import type { Command, Reply, Schema } from '../../../lib/protocols/centrifugal/schema.ts'
import { SdkEncoder } from '../../../lib/protocols/centrifugal/encoder.ts'
import { eventCodec, lineCodec } from '../../../lib/protocols/centrifugal/streams.ts'
import { jsonCodec } from '../../../lib/protocols/centrifugal/json-codec.ts'
import { protobufCodec } from '../../../lib/protocols/centrifugal/protobuf-codec.ts'
import type { Codec } from '../../../lib/protocols/centrifugal/codec.ts'
import type { Payload } from '../../../lib/model/publication.ts'
import { sdkCodec, toProtobuf } from '../../helpers/sdk-codec.ts'

const MAX_OFFSET = Number.MAX_SAFE_INTEGER
const bytes = (text: string) => Buffer.from(text)
const json = (value: unknown): Payload => ({ kind: 'json', payload: bytes(JSON.stringify(value)) })

/** A writer of the bytes that no well-made library would write. */
const raw = (write: (writer: protobuf.Writer) => void): Buffer => {
  const writer = protobuf.Writer.create()
  write(writer)
  return Buffer.from(writer.finish())
}
const delimited = (message: Buffer): Buffer => raw(writer => writer.bytes(message))
const tag = (number: number, wireType: number) => number << 3 | wireType

/** Every request with every field that this server knows, `data` as a JSON client writes it. */
const subscribe = {
  channel: 'chat:1',
  token: 'a.b.c',
  recover: true,
  epoch: 'xyz',
  offset: 42,
  data: { a: [1, null, 'x'] },
  positioned: true,
  recoverable: true,
  join_leave: true,
  delta: 'fossil',
  tf: { op: 'or', key: 'k', cmp: 'eq', val: 'v', vals: ['a', ''], nodes: [{ key: 'k', cmp: 'ex' }, { op: 'not', nodes: [{}] }] },
  flag: 3,
  type: 1
}
const requests: Record<string, Record<string, unknown>> = {
  connect: { token: 'jwt', data: { hello: 'wörld €' }, subs: { 'news:1': subscribe, 'news:2': { recover: true } }, name: 'js', version: '5.8.0', headers: { 'x-a': '1', 'x-b': '' } },
  subscribe,
  unsubscribe: { channel: 'chat:1' },
  publish: { channel: 'chat:1', data: { text: 'line\nfeed' }, type: 1 },
  presence: { channel: 'chat:1' },
  presence_stats: { channel: 'chat:1' },
  history: { channel: 'chat:1', limit: 10, since: { offset: 7, epoch: 'xyz' }, reverse: true },
  ping: {},
  send: { data: 'text' },
  rpc: { data: 17, method: 'sum' },
  refresh: { token: 'jwt' },
  sub_refresh: { channel: 'chat:1', token: 'jwt', type: 1 }
}

/** Both decoders' results in one form: plain objects, `data` as its value. */
function plain (value: any): any {
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return value.map(plain)
  if (Buffer.isBuffer(value.bytes)) return JSON.parse(value.bytes.toString())
  if (Object.keys(value).length === 1 && 'value' in value) return value.value
  return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, plain(member)]))
}

/** Fields of the schema that the sample lacks, and which so would stay untested. Nodes of filters are all the same. */
function lacking (schema: Schema, sample: any, path = ''): string[] {
  return Object.entries(schema).flatMap(([name, { type, many }]) => {
    const value = many === 'list' ? sample?.[name]?.[0] : many === 'map' ? Object.values(sample?.[name] ?? {})[0] : sample?.[name]
    if (value === undefined) return [path + name]
    return typeof type === 'object' && name !== 'nodes' ? lacking(type, value, `${path}${name}.`) : []
  })
}

function refuses (codec: Codec, frame: Buffer): boolean {
  try {
    codec.decode(frame)
    return false
  } catch {
    return true
  }
}

t.test('every command decodes to the same in JSON and in Protobuf', async (t) => {
  t.strictSame(lacking(commandSchema, { id: 1, ...requests }), [])
  const commands = Object.entries(requests).map(([name, request]) => ({ id: 7, [name]: request }))
  t.strictSame(commands.map(command => jsonCodec.decode(bytes(JSON.stringify(command))).map(plain)), commands.map(command => [command]))
  t.strictSame(commands.map(command => protobufCodec.decode(toProtobuf([command])).map(plain)), commands.map(command => [command]))
})

const user = { user: 'ann', client: 'c1', conn_info: json({ name: 'Ann' }), chan_info: json([1]) }
const publication = { data: json({ text: 'hi' }), info: user, offset: 9, tags: { lang: 'de', none: '' }, delta: true, epoch: 'xyz' }
const subscribed = {
  expires: true,
  ttl: 60,
  recoverable: true,
  epoch: 'xyz',
  publications: [publication, { data: json(0) }],
  recovered: true,
  offset: 8,
  positioned: true,
  data: json('welcome'),
  was_recovering: true,
  delta: true,
  id: 7
}
const results: Record<string, Record<string, unknown>> = {
  error: { code: 100, message: 'internal server error', temporary: true },
  push: {
    id: 7,
    channel: 'chat:1',
    pub: publication,
    join: { info: user },
    leave: { info: user },
    unsubscribe: { code: 2500, reason: 'insufficient state' },
    message: { data: json({ a: 1 }) },
    subscribe: { recoverable: true, epoch: 'xyz', offset: 8, positioned: true },
    disconnect: { code: 3001, reason: 'shutdown', reconnect: true }
  },
  connect: {
    client: 'c1',
    version: 'v',
    expires: true,
    ttl: 60,
    data: json({ b: 2 }),
    subs: { 'news:1': subscribed, 'news:2': {} },
    ping: 25,
    pong: true,
    session: 'secret',
    node: 'n1'
  },
  subscribe: subscribed,
  unsubscribe: {},
  publish: {},
  presence: { presence: { c1: user, c2: { user: 'bob', client: 'c2' } } },
  presence_stats: { num_clients: 2, num_users: 1 },
  history: { publications: [publication, publication], epoch: 'xyz', offset: 9 },
  rpc: { data: json({ sum: 17 }) },
  refresh: { expires: true, ttl: 60 },
  sub_refresh: { expires: true, ttl: 60 }
}

/** What a client finds in it: payloads as values, offsets as numbers. */
function asJson (value: any): any {
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return value.map(asJson)
  if (Buffer.isBuffer(value)) return JSON.parse(value.toString())
  if (Buffer.isBuffer(value.payload)) return asJson(value.payload)
  return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, asJson(member)]))
}

/** What the SDK's decoder found: bytes as they are, 64 bit numbers as numbers, no lists and maps that it makes up. */
function found (value: any): any {
  if (value instanceof Uint8Array) return Buffer.from(value)
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return value.map(found)
  if ('low' in value && 'high' in value) return Number(String(value))
  const members = Object.entries(value).filter(([, member]) => !isMadeUp(member))
  return Object.fromEntries(members.map(([key, member]) => [key, found(member)]))
}

function isMadeUp (value: unknown): boolean {
  return value === null || (typeof value === 'object' && Object.keys(value).length === 0 && (Array.isArray(value) || value.constructor === Object))
}

function decodeReplies (frame: Buffer): any[] {
  return sdkCodec.decodeReplies(frame).map(found)
}

t.test('every reply and push reads the same in JSON and, by the official schema, in Protobuf', async (t) => {
  t.strictSame(lacking(replySchema, { id: 1, ...results }), [])
  const replies = Object.entries(results).map(([name, result]) => ({ id: 7, [name]: result }) as Reply)
  t.strictSame(replies.map(reply => JSON.parse(jsonCodec.encode(reply).toString())), replies.map(asJson))
  t.strictSame(replies.map(reply => decodeReplies(protobufCodec.encode(reply)).map(asJson)), replies.map(reply => [asJson(reply)]))
})

t.test('in a response that stays open each reply is a line, or an event', async (t) => {
  const replies: Reply[] = [{ id: 1, rpc: { data: json('a\nb') } }, {}]
  const lines = replies.map(reply => lineCodec.encode(reply))
  t.equal(lineCodec.join(lines).toString(), '{"id":1,"rpc":{"data":"a\\nb"}}\n{}\n')
  const events = replies.map(reply => eventCodec.encode(reply))
  t.equal(eventCodec.join(events).toString(), 'data: {"id":1,"rpc":{"data":"a\\nb"}}\n\ndata: {}\n\n')
})

t.test('what a WebSocket says in a close frame is a push elsewhere, and says whether to come back', async (t) => {
  const end = (code: number) => ({ code, reason: 'why', cause: 'server' } as const)
  t.equal(new SdkEncoder(jsonCodec).closingMessage(end(3001)), undefined)
  const encoder = new SdkEncoder(lineCodec, 'http_stream')
  const reconnects = (code: number) => JSON.parse(encoder.closingMessage(end(code))!.payload.toString()).push.disconnect.reconnect
  t.strictSame([3000, 3499, 3500, 3999, 4000, 4499, 4500, 4999].map(reconnects), [true, true, false, false, true, true, false, false])
})

t.test('a JSON frame is one document per line', async (t) => {
  const decode = (text: string) => jsonCodec.decode(bytes(text))
  t.strictSame(decode('{"id":1}'), [{ id: 1 }])
  t.strictSame(decode('{"id":1}\n'), [{ id: 1 }], 'a newline may come last')
  t.strictSame(decode('{"id":1}\n{"id":2}\n{}'), [{ id: 1 }, { id: 2 }, {}])
  t.strictSame(decode('\n{"id":1}\n\n\n{"id":2}\n\n'), [{ id: 1 }, { id: 2 }], 'blank lines are none')
  t.strictSame(decode(''), [])
  t.strictSame(decode('\n\n'), [])
  t.throws(() => decode('{"id":1}{"id":2}'))
  t.throws(() => decode('{"id":\n1}'))
  t.throws(() => decode('{"id":1}\nrubbish'), 'one bad line spoils the frame')

  const replies = [{ id: 1, unsubscribe: {} }, {}, { id: 2, publish: {} }].map(reply => jsonCodec.encode(reply))
  t.equal(jsonCodec.join(replies).toString(), '{"id":1,"unsubscribe":{}}\n{}\n{"id":2,"publish":{}}')
  t.equal(jsonCodec.join(replies.slice(1, 2)).toString(), '{}', 'an empty reply is a ping')
  t.equal(jsonCodec.join([]).length, 0)
  t.equal(jsonCodec.binary, false)
})

t.test('a Protobuf frame is messages after their lengths', async (t) => {
  const long = { id: 3, rpc: { method: 'x'.repeat(20_000) } } // its length takes three bytes
  const commands = [{ id: 1, ping: {} }, {}, long, { id: 2, unsubscribe: { channel: 'a' } }]
  t.strictSame(protobufCodec.decode(Buffer.from(sdkCodec.encodeCommands(commands))), commands)
  t.strictSame(protobufCodec.decode(Buffer.alloc(0)), [])
  t.strictSame(protobufCodec.decode(Buffer.from([0])), [{}], 'a pong')
  t.strictSame(protobufCodec.decode(Buffer.alloc(3)), [{}, {}, {}])

  const replies = [{ id: 1, unsubscribe: {} }, {}, { id: 2, rpc: { data: { kind: 'binary' as const, payload: Buffer.alloc(20_000, 7) } } }].map(reply => protobufCodec.encode(reply))
  t.strictSame(replies[0], Buffer.from([4, 8, 1, tag(7, 2), 0]), 'an empty result is there, with no length')
  t.strictSame(replies[1], Buffer.from([0]), 'an empty reply is a ping')
  t.strictSame(decodeReplies(protobufCodec.join(replies)), [
    { id: 1, unsubscribe: {} },
    {},
    { id: 2, rpc: { data: Buffer.alloc(20_000, 7) } }
  ])
  t.strictSame(protobufCodec.join(replies.slice(1, 2)), Buffer.from([0]))
  t.equal(protobufCodec.join([]).length, 0)
  t.equal(protobufCodec.binary, true)
})

t.test('offsets are exact up to 2^53', async (t) => {
  const offsets = [0, 1, 127, 128, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 33 + 1, MAX_OFFSET - 1, MAX_OFFSET]
  const inJson = (offset: number) => bytes(JSON.stringify({ id: 1, history: { channel: 'a', since: { offset, epoch: 'e' } } }))
  const inProtobuf = (offset: number) => raw(writer => writer
    .fork().uint32(tag(1, 0)).uint32(1)
    .uint32(tag(10, 2)).fork()
    .uint32(tag(8, 2)).fork()
    .uint32(tag(1, 0)).uint64(offset)
    .ldelim().ldelim().ldelim())
  const reply = (offset: number): Reply => ({ id: 1, history: { publications: [], epoch: 'e', offset } })
  t.strictSame(offsets.map(offset => jsonCodec.decode(inJson(offset))[0]?.history?.since?.offset), offsets)
  t.strictSame(offsets.map(offset => protobufCodec.decode(inProtobuf(offset))[0]?.history?.since?.offset), offsets)
  t.strictSame(offsets.map(offset => JSON.parse(jsonCodec.encode(reply(offset)).toString()).history.offset), offsets)
  t.strictSame(offsets.map(offset => decodeReplies(protobufCodec.encode(reply(offset)))[0].history.offset ?? 0), offsets)
  // As far as there are doubles for it, and no further.
  t.throws(() => jsonCodec.decode(bytes('{"id":1,"subscribe":{"offset":9007199254740993}}')))
  t.throws(() => protobufCodec.decode(Buffer.from(sdkCodec.encodeCommands([{ subscribe: { offset: 2 ** 64 - 2 ** 12 } }]))))
})

t.test('negative numbers are what they are', async (t) => {
  const commands: Command[] = [
    { id: 1, subscribe: { flag: -1 }, history: { limit: -1 } },
    { id: 1, subscribe: { flag: -MAX_OFFSET }, history: { limit: -2_147_483_648 } }
  ]
  t.strictSame(jsonCodec.decode(bytes(commands.map(command => JSON.stringify(command)).join('\n'))), commands)
  t.strictSame(protobufCodec.decode(toProtobuf(commands)), commands)
})

t.test('zero values are left out in Protobuf and written in JSON, where the SDKs of typed languages look for them', async (t) => {
  const reply: Reply = {
    id: 1,
    presence: { presence: { c1: { user: '', client: 'c1' } } },
    presence_stats: { num_clients: 0, num_users: 0 },
    history: { publications: [], epoch: '', offset: 0 }
  }
  t.equal(jsonCodec.encode(reply).toString(), '{"id":1,"presence":{"presence":{"c1":{"user":"","client":"c1"}}},"presence_stats":{"num_clients":0,"num_users":0},"history":{"publications":[],"epoch":"","offset":0}}')
  t.strictSame(decodeReplies(protobufCodec.encode(reply))[0], { id: 1, presence: { presence: { c1: { client: 'c1' } } }, presence_stats: {}, history: {} })
  t.strictSame(protobufCodec.encode({ id: 1, presence_stats: { num_clients: 0, num_users: 0 } }), Buffer.from([4, 8, 1, tag(10, 2), 0]))
  // Zeros that a client sends are as good as none.
  t.strictSame(jsonCodec.decode(bytes('{"id":0,"subscribe":{"channel":"","recover":false,"offset":0}}')), [{ id: 0, subscribe: { channel: '', recover: false, offset: 0 } }])
  t.strictSame(
    protobufCodec.decode(delimited(Buffer.from([tag(1, 0), 0, tag(5, 2), 4, tag(3, 0), 0, tag(7, 0), 0]))),
    [{ id: 0, subscribe: { recover: false, offset: 0 } }]
  )
})

t.test('members that are undefined are left out, an empty map and an empty message are not', async (t) => {
  const reply: Reply = { id: 1, presence: { presence: {} }, rpc: { data: undefined as never } }
  t.equal(jsonCodec.encode(reply).toString(), '{"id":1,"presence":{"presence":{}},"rpc":{}}')
  t.strictSame(decodeReplies(protobufCodec.encode(reply))[0], { id: 1, presence: {}, rpc: {} })
})

t.test('what is not in the schema is skipped', async (t) => {
  t.strictSame(jsonCodec.decode(bytes('{"id":1,"new":[{}],"subscribe":{"channel":"a","cursor":"x","phase":2},"toString":{"ping":{}},"constructor":1}')), [{ id: 1, subscribe: { channel: 'a' } }])
  const message = raw(writer => {
    writer.uint32(tag(100, 0)).uint64(MAX_OFFSET)
    writer.uint32(tag(101, 1)).fixed64(1)
    writer.uint32(tag(102, 2)).bytes(bytes('anything'))
    writer.uint32(tag(103, 3)).uint32(tag(1, 0)).uint32(5).uint32(tag(103, 4)) // a group, as in Protobuf's first years
    writer.uint32(tag(104, 5)).fixed32(1)
    writer.uint32(tag(1, 0)).uint32(1)
    writer.uint32(tag(5, 2)).fork().uint32(tag(17, 2)).string('cursor').uint32(tag(1, 2)).string('a').ldelim()
  })
  t.strictSame(protobufCodec.decode(delimited(message)), [{ id: 1, subscribe: { channel: 'a' } }])
  t.strictSame(plain(protobufCodec.decode(Buffer.from(sdkCodec.encodeCommands([{ id: 1, subscribe: { channel: 'a', cursor: 'x', limit: 3 } }])))[0]), { id: 1, subscribe: { channel: 'a' } })
})

t.test('null is absent in JSON, but for data, where it is a value', async (t) => {
  t.strictSame(jsonCodec.decode(bytes('{"id":null,"connect":null,"publish":{"channel":null,"data":null},"rpc":{}}')), [{ publish: { data: { value: null } }, rpc: {} }])
})

t.test('names of Object.prototype are keys like any other, but JSON has no __proto__', async (t) => {
  const command = '{"id":1,"connect":{"headers":{"__proto__":"a","constructor":"b"}}}'
  const [fromJson] = jsonCodec.decode(bytes(command.replace('__proto__', 'valueOf')))
  const [fromProtobuf] = protobufCodec.decode(Buffer.from(sdkCodec.encodeCommands([JSON.parse(command)])))
  t.throws(() => jsonCodec.decode(bytes(command)), SyntaxError)
  t.strictSame(Object.entries(fromJson!.connect!.headers!), [['valueOf', 'a'], ['constructor', 'b']])
  t.strictSame(Object.entries(fromProtobuf!.connect!.headers!), [['__proto__', 'a'], ['constructor', 'b']])
  t.equal(({} as any).a, undefined)
})

t.test('wrong types are refused in JSON', async (t) => {
  const bad = [
    'null', '17', '"text"', '[]', '[{"id":1}]', 'true', 'nothing', '{', '{"id":1', '"', '\u0000', '{"id":1}\r\n\r\n',
    '{"id":"1"}', '{"id":-1}', '{"id":1.5}', '{"id":1e99}', '{"id":true}', '{"id":[]}',
    '{"id":1,"connect":[]}', '{"id":1,"connect":"x"}', '{"id":1,"connect":{"token":1}}', '{"id":1,"connect":{"subs":[]}}', '{"id":1,"connect":{"subs":"x"}}',
    '{"id":1,"connect":{"subs":{"a":1}}}', '{"id":1,"connect":{"subs":{"a":{"offset":-1}}}}', '{"id":1,"connect":{"headers":{"a":1}}}',
    '{"id":1,"subscribe":{"channel":1}}', '{"id":1,"subscribe":{"recover":1}}', '{"id":1,"subscribe":{"offset":"1"}}', '{"id":1,"subscribe":{"flag":1.5}}', '{"id":1,"subscribe":{"tf":[]}}',
    '{"id":1,"subscribe":{"tf":{"vals":"a"}}}', '{"id":1,"subscribe":{"tf":{"vals":[1]}}}', '{"id":1,"subscribe":{"tf":{"nodes":[null]}}}',
    '{"id":1,"history":{"limit":0.5}}', '{"id":1,"history":{"since":1}}', '{"id":1,"ping":1}'
  ]
  t.strictSame(bad.filter(text => !refuses(jsonCodec, bytes(text))), [])
})

t.test('wrong types and lengths are refused in Protobuf', async (t) => {
  const bad: Record<string, Buffer> = {
    'a length of more than there is': Buffer.from([2, 8]),
    'a length without an end': Buffer.from([0x80]),
    'a length of eleven bytes': Buffer.alloc(11, 0xff),
    'the largest length': Buffer.from([0xff, 0xff, 0xff, 0xff, 0x0f]),
    'an id that is a text': delimited(Buffer.from([tag(1, 2), 1, 65])),
    'an id that is fixed': delimited(Buffer.from([tag(1, 5), 1, 0, 0, 0])),
    'a request that is a number': delimited(Buffer.from([tag(4, 0), 1])),
    'a text that is a number': delimited(Buffer.from([tag(6, 2), 2, tag(1, 0), 1])),
    'a boolean that is a text': delimited(Buffer.from([tag(5, 2), 3, tag(3, 2), 1, 65])),
    'a map that is a number': delimited(Buffer.from([tag(4, 2), 2, tag(3, 0), 1])),
    'a map whose key is a number': delimited(Buffer.from([tag(4, 2), 4, tag(6, 2), 2, tag(1, 0), 1])),
    'a request that is longer than its command': Buffer.from([4, tag(5, 2), 10, tag(1, 2), 1, 65, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    'a text that is longer than its request': Buffer.from([6, tag(5, 2), 2, tag(1, 2), 3, 65, 65, 65]),
    'a text that is longer than the frame': delimited(Buffer.from([tag(5, 2), 2, tag(1, 2), 100])),
    'a number without an end': delimited(Buffer.from([tag(1, 0), 0x80])),
    'an unknown field longer than the frame': delimited(Buffer.from([tag(100, 2) & 0x7f | 0x80, 6, 100])),
    'an unknown wire type': delimited(Buffer.from([tag(3, 6)])),
    'a group without an end': delimited(Buffer.from([tag(3, 3), tag(1, 0), 1])),
    'groups in groups': delimited(Buffer.alloc(60_000, tag(3, 3)))
  }
  t.strictSame(Object.keys(bad).filter(what => !refuses(protobufCodec, bad[what]!)), [])
})

t.test('a field that comes twice counts as it came last', async (t) => {
  const message = raw(writer => writer.uint32(tag(1, 0)).uint32(1).uint32(tag(1, 0)).uint32(2))
  t.strictSame(protobufCodec.decode(delimited(message)), [{ id: 2 }])
  t.strictSame(jsonCodec.decode(bytes('{"id":1,"id":2}')), [{ id: 2 }])
})

t.test('in a map of Protobuf a key and a value that are left out are empty', async (t) => {
  const entry = (write: (writer: protobuf.Writer) => void) => raw(writer => {
    writer.uint32(tag(4, 2)).fork()
    write(writer)
    writer.ldelim()
  })
  const headers = entry(writer => writer.uint32(tag(6, 2)).bytes(Buffer.alloc(0)).uint32(tag(6, 2)).fork().uint32(tag(1, 2)).string('a').ldelim())
  t.strictSame({ ...protobufCodec.decode(delimited(headers))[0]?.connect?.headers }, { '': '', a: '' })
  const subs = entry(writer => writer.uint32(tag(3, 2)).fork().uint32(tag(1, 2)).string('a').ldelim())
  t.strictSame({ ...protobufCodec.decode(delimited(subs))[0]?.connect?.subs }, { a: {} })
})

t.test('text, JSON and bytes reach clients of both encodings', async (t) => {
  const payloads: [Payload, inJson: string, inProtobuf: Buffer][] = [
    [json({ a: 'ü' }), '{"a":"ü"}', bytes('{"a":"ü"}')],
    [json(0), '0', bytes('0')],
    [json(false), 'false', bytes('false')],
    [json(null), 'null', bytes('null')],
    [json(''), '""', bytes('""')],
    [{ kind: 'text', payload: bytes('say "hi"\n€') }, '"say \\"hi\\"\\n€"', bytes('"say \\"hi\\"\\n€"')],
    [{ kind: 'text', payload: bytes('') }, '""', bytes('""')],
    [{ kind: 'binary', payload: Buffer.from([0, 255, 10]) }, '"AP8K"', Buffer.from([0, 255, 10])],
    [{ kind: 'binary', payload: Buffer.alloc(0) }, '""', Buffer.alloc(0)]
  ]
  t.strictSame(payloads.map(([data]) => jsonCodec.encode({ id: 1, rpc: { data } }).toString()), payloads.map(([, inJson]) => `{"id":1,"rpc":{"data":${inJson}}}`))
  t.strictSame(
    payloads.map(([data]) => decodeReplies(protobufCodec.encode({ id: 1, rpc: { data } }))),
    payloads.map(([, , data]) => [{ id: 1, rpc: { data } }])
  )
})

t.test('a frame of JSON never holds a raw newline but between replies', async (t) => {
  const nasty = 'a\nb\r\nc\u2028"\\'
  const reply: Reply = {
    push: {
      channel: nasty,
      pub: { data: { kind: 'text', payload: bytes(nasty) }, info: { user: nasty, client: nasty, conn_info: json({ [nasty]: nasty }) }, tags: { [nasty]: nasty } }
    },
    error: { code: 400, message: nasty }
  }
  const encoded = jsonCodec.encode(reply)
  t.notMatch(encoded.toString(), /[\n\r]/)
  const [, second] = jsonCodec.join([encoded, encoded]).toString().split('\n')
  t.strictSame(JSON.parse(second!).push.pub.tags, { [nasty]: nasty })
})
