import { commandSchema } from './schema.ts'
import type { Command, Field, FieldType, Reply, Schema } from './schema.ts'
import { checkKeys, isSuspect } from '../../model/client-json.ts'
import type { Codec } from './codec.ts'
import type { Payload } from '../../model/publication.ts'

const NEWLINE = Buffer.from('\n')

/** The JSON encoding: one document per line [Top level batching]. */
export const jsonCodec: Codec = {
  name: 'json',
  binary: false,

  decode (frame) {
    const text = frame.toString()
    const suspect = isSuspect(text)
    const commands: Command[] = []
    for (const line of text.split('\n')) {
      if (line === '') continue
      const value: unknown = JSON.parse(line)
      if (suspect) checkKeys(value)
      commands.push(checkMessage(value, commandSchema) as Command)
    }
    return commands
  },

  encode (reply: Reply) {
    return Buffer.from(toJson(reply))
  },

  join (frames) {
    return Buffer.concat(frames.flatMap((frame, i) => i === 0 ? [frame] : [NEWLINE, frame]))
  }
}

/** Like JSON.stringify, but inserts a payload that is JSON as it is. */
function toJson (value: unknown): string {
  if (isPayload(value)) return payloadToJson(value)
  if (Array.isArray(value)) return `[${value.map(toJson).join(',')}]`
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  let members = ''
  for (const [name, member] of Object.entries(value)) {
    if (member !== undefined) members += `${members === '' ? '' : ','}${JSON.stringify(name)}:${toJson(member)}`
  }
  return `{${members}}`
}

function isPayload (value: unknown): value is Payload {
  return (value as Payload | null)?.payload instanceof Buffer
}

/** Payloads of kind 'json' hold no raw newline, which would end the document. Other bytes are sent in base64. */
function payloadToJson ({ kind, payload }: Payload): string {
  if (kind === 'json') return payload.toString()
  return JSON.stringify(kind === 'text' ? payload.toString() : payload.toString('base64'))
}

/** Takes the fields that the schema knows and checks their types. null is absent, except in `data`. */
function checkMessage (value: unknown, schema: Schema): object {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new TypeError('not an object')
  const message: Record<string, unknown> = {}
  for (const [name, member] of Object.entries(value)) {
    const field = Object.hasOwn(schema, name) ? schema[name] : undefined
    if (field !== undefined && (member !== null || field.type === 'data')) message[name] = checkField(member, field)
  }
  return message
}

function checkField (value: unknown, { type, many }: Field): unknown {
  if (many === undefined) return checkValue(value, type)
  if (many === 'list') {
    if (!Array.isArray(value)) throw new TypeError('not a list')
    return value.map(member => checkValue(member, type))
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new TypeError('not a map')
  return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, checkValue(member, type)]))
}

function checkValue (value: unknown, type: FieldType): unknown {
  if (typeof type === 'object') return checkMessage(value, type)
  if (type === 'data') return { value }
  if (!isOfType(value, type)) throw new TypeError(`not a ${type}`)
  return value
}

function isOfType (value: unknown, type: Exclude<FieldType, Schema | 'data'>): boolean {
  if (type === 'bool') return typeof value === 'boolean'
  if (type === 'string') return typeof value === 'string'
  return Number.isSafeInteger(value) && (type.startsWith('int') || (value as number) >= 0)
}
