import protobuf from 'protobufjs/minimal.js'
import { commandSchema, one, replySchema } from './schema.ts'
import type { Command, CommandData, Field, FieldType, MessageOf, Reply, Schema } from './schema.ts'
import type { Codec } from './codec.ts'
import type { Payload } from '../../model/publication.ts'

type Reader = protobuf.Reader
type Writer = protobuf.Writer

/** Wire types of the Protobuf encoding (protobuf.dev/programming-guides/encoding). */
const VARINT = 0
const LENGTH_DELIMITED = 2

/** The Protobuf encoding: each message is preceded by its length [Top level batching]. */
export const protobufCodec: Codec = {
  name: 'protobuf',
  binary: true,

  decode (frame) {
    const reader = protobuf.Reader.create(frame)
    const commands: Command[] = []
    while (reader.pos < reader.len) commands.push(readMessage(reader, reader.uint32(), commandSchema) as Command)
    return commands
  },

  encode (reply: Reply) {
    const writer = protobuf.Writer.create().fork()
    writeMessage(writer, reply, replySchema)
    return Buffer.from(writer.ldelim().finish())
  },

  join (frames) {
    return Buffer.concat(frames)
  }
}

/** Reads one message that is all there is. @throws if the bytes are none. */
export function decodeMessage<One extends Schema> (bytes: Buffer, schema: One): MessageOf<One> {
  return readMessage(protobuf.Reader.create(bytes), bytes.length, schema) as MessageOf<One>
}

const fieldsByNumber = new WeakMap<Schema, Map<number, [string, Field]>>()

function fieldOf (schema: Schema, number: number): [string, Field] | undefined {
  let fields = fieldsByNumber.get(schema)
  if (fields === undefined) fieldsByNumber.set(schema, fields = new Map(Object.entries(schema).map(entry => [entry[1].number, entry])))
  return fields.get(number)
}

function readMessage (reader: Reader, length: number, schema: Schema): object {
  const end = reader.pos + length
  if (end > reader.len) throw new RangeError('the message is longer than its frame')
  const message: Record<string, unknown> = {}
  while (reader.pos < end) {
    const tag = reader.uint32()
    const [name, field] = fieldOf(schema, tag >>> 3) ?? []
    if (name === undefined || field === undefined) {
      reader.skipType(tag & 7)
    } else if ((tag & 7) !== wireType(field)) {
      throw new TypeError('a field has the wrong type')
    } else if (field.many === 'map') {
      const entrySchema = { key: one(1, 'string'), value: one(2, field.type) }
      const entry = readMessage(reader, reader.uint32(), entrySchema) as { key?: string, value?: unknown }
      const entries = (message[name] ??= Object.create(null)) as Record<string, unknown>
      entries[entry.key ?? ''] = entry.value ?? (field.type === 'string' ? '' : {})
    } else if (field.many === 'list') {
      const list = (message[name] ??= []) as unknown[]
      list.push(readValue(reader, field.type))
    } else {
      message[name] = readValue(reader, field.type)
    }
  }
  if (reader.pos !== end) throw new RangeError('a field is longer than its message')
  return message
}

function wireType ({ type, many }: Field): number {
  return many !== undefined || typeof type === 'object' || type === 'string' || type === 'data' ? LENGTH_DELIMITED : VARINT
}

function readValue (reader: Reader, type: FieldType): unknown {
  if (typeof type === 'object') return readMessage(reader, reader.uint32(), type)
  if (type === 'data') return { bytes: Buffer.from(reader.bytes()) } satisfies CommandData
  const value = reader[type]()
  if (typeof value === 'boolean' || typeof value === 'string') return value
  // protobufjs returns 64-bit numbers as objects if the package `long` is installed.
  const number = Number(String(value))
  if (!Number.isSafeInteger(number)) throw new RangeError('a number is too large')
  return number
}

/** Leaves out zero values, but not empty messages: SDKs look for the result. */
function writeMessage (writer: Writer, message: object, schema: Schema): void {
  for (const [name, value] of Object.entries(message)) {
    const field = schema[name]
    if (field === undefined || value === undefined || value === 0 || value === '' || value === false) continue
    if (field.many === 'list') for (const item of value) writeValue(writer, field.number, field.type, item)
    else if (field.many === 'map') for (const entry of Object.entries(value)) writeEntry(writer, field, entry)
    else writeValue(writer, field.number, field.type, value)
  }
}

function writeEntry (writer: Writer, { number, type }: Field, [key, value]: [string, unknown]): void {
  writer.uint32(number << 3 | LENGTH_DELIMITED).fork()
  writeValue(writer, 1, 'string', key)
  writeValue(writer, 2, type, value)
  writer.ldelim()
}

function writeValue (writer: Writer, number: number, type: FieldType, value: unknown): void {
  if (typeof type === 'object') {
    writer.uint32(number << 3 | LENGTH_DELIMITED).fork()
    writeMessage(writer, value as object, type)
    writer.ldelim()
  } else if (type === 'data') {
    writer.uint32(number << 3 | LENGTH_DELIMITED).bytes(payloadToBytes(value as Payload))
  } else if (type === 'string') {
    writer.uint32(number << 3 | LENGTH_DELIMITED).string(value as string)
  } else {
    writer.uint32(number << 3 | VARINT)[type](value as never)
  }
}

/** Protobuf clients expect JSON in bytes, so a string is sent as a JSON string to them too. */
function payloadToBytes ({ kind, payload }: Payload): Buffer {
  return kind === 'text' ? Buffer.from(JSON.stringify(payload.toString())) : payload
}
