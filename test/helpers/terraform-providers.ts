import { Server, ServerCredentials } from '@grpc/grpc-js'
import type { handleUnaryCall } from '@grpc/grpc-js'
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { parse as parseProto } from 'protobufjs'
import type { Test } from 'tap'

/** Stands in for Google's provider: it knows the arguments of what is used, and makes nothing. */
const { resources, data } = JSON.parse(readFileSync(join(resolve(import.meta.dirname, '../fixtures'), 'terraform-schema.json'), 'utf8')) as {
  resources: Record<string, Block>, data: Record<string, Block>
}

interface Block {
  /** Type and use: required, optional, computed or write-only. */
  attributes: Record<string, [unknown, string]>
  blocks?: Record<string, Block>
}

/** What Terraform and a provider say to each other (protocol 5), as far as a plan needs it. */
const { root } = parseProto(`
  syntax = "proto3";
  message Value { bytes msgpack = 1; bytes json = 2; }
  message Diagnostic { int32 severity = 1; string summary = 2; }
  message Attribute { string name = 1; bytes type = 2; bool required = 4; bool optional = 5; bool computed = 6; bool write_only = 10; }
  message NestedBlock { string type_name = 1; Block block = 2; int32 nesting = 3; }
  message Block { repeated Attribute attributes = 2; repeated NestedBlock block_types = 3; }
  message Schema { Block block = 2; }
  message Schemas { Schema provider = 1; map<string, Schema> resource_schemas = 2; map<string, Schema> data_source_schemas = 3; map<string, Schema> ephemeral_resource_schemas = 8; }
  message Nothing {}
  message Config { Value config = 1; }
  message OfType { string type_name = 1; Value config = 2; Value proposed_new_state = 3; }
  message Answer { Value value = 1; }
  message Planned { Value planned_state = 1; bool legacy_type_system = 5; }
  message Opened { Value result = 3; }
`, { keepCase: true })

const LIST = 2

function blockOf ({ attributes, blocks = {} }: Block): object {
  return {
    attributes: Object.entries(attributes).map(([name, [type, use]]) => ({
      name,
      type: Buffer.from(JSON.stringify(type)),
      required: use === 'required',
      optional: use === 'optional' || use === 'write-only',
      computed: use === 'computed',
      write_only: use === 'write-only'
    })),
    block_types: Object.entries(blocks).map(([name, block]) => ({ type_name: name, block: blockOf(block), nesting: LIST }))
  }
}

const schemasOf = (blocks: Record<string, Block>) =>
  Object.fromEntries(Object.entries(blocks).map(([type, block]) => [type, { block: blockOf(block) }]))
const settings = (attributes: Block['attributes']) => ({ block: blockOf({ attributes }) })

const google = {
  provider: settings({ project: ['string', 'optional'], billing_project: ['string', 'optional'], user_project_override: ['bool', 'optional'] }),
  resource_schemas: schemasOf(resources),
  data_source_schemas: schemasOf(data)
}
const random = {
  provider: settings({}),
  ephemeral_resource_schemas: schemasOf({
    random_password: { attributes: { length: ['number', 'required'], special: ['bool', 'optional'], result: ['string', 'computed'] } }
  })
}

type Message = any

/** Methods by name: what they take, what they answer with, and the answer. */
function methods (schemas: object): Record<string, [string, string, (request: Message) => object]> {
  const nothing = (): [string, string, () => object] => ['Nothing', 'Nothing', () => ({})]
  return {
    GetSchema: ['Nothing', 'Schemas', () => schemas],
    PrepareProviderConfig: ['Config', 'Answer', ({ config }) => ({ value: config })],
    ...Object.fromEntries(['ValidateResourceTypeConfig', 'ValidateDataSourceConfig', 'ValidateEphemeralResourceConfig', 'Configure', 'Stop', 'CloseEphemeralResource']
      .map(name => [name, nothing()])),
    ReadDataSource: ['OfType', 'Answer', ({ type_name: type }) => {
      const unknown = Object.fromEntries(Object.keys(data[type]!.attributes).map(name => [name, null]))
      return { value: { json: Buffer.from(JSON.stringify({ ...unknown, project_id: 'demo', number: '123' })) } }
    }],
    PlanResourceChange: ['OfType', 'Planned', ({ type_name: type, proposed_new_state: { msgpack } }) => ({
      planned_state: { msgpack: planned(Buffer.from(msgpack), resources[type]!) }, legacy_type_system: true
    })],
    OpenEphemeralResource: ['OfType', 'Opened', () => ({ result: { json: Buffer.from('{"length":43,"special":false,"result":"secret"}') } })]
  }
}

const NULL = Buffer.from([0xc0])
const UNKNOWN = Buffer.from([0xd4, 0, 0])

/** What Google would answer is not known yet, and write-only arguments are in no plan. */
function planned (state: Buffer, { attributes }: Block): Buffer {
  if (state[0] === NULL[0]) return state
  const [count, start] = state[0]! <= 0x8f ? [state[0]! & 15, 1] : [state.readUInt16BE(1), 3]
  const parts = [state.subarray(0, start)]
  for (let i = 0, at = start; i < count; i++) {
    const value = end(state, at)
    const next = end(state, value)
    const name = state.subarray(at + (state[at]! < 0xc0 ? 1 : 2), value).toString()
    const use = attributes[name]?.[1]
    const given = state.subarray(value, next)
    const unknown = given[0] === NULL[0] && (use === 'computed' || name === 'id')
    parts.push(state.subarray(at, value), use === 'write-only' ? NULL : unknown ? UNKNOWN : given)
    at = next
  }
  return Buffer.concat(parts)
}

/** Lengths of numbers and extensions, with their first byte. */
const FIXED: Record<number, number> = {
  0xca: 5, 0xcb: 9, 0xcc: 2, 0xcd: 3, 0xce: 5, 0xcf: 9, 0xd0: 2, 0xd1: 3, 0xd2: 5, 0xd3: 9, 0xd4: 3, 0xd5: 4, 0xd6: 6, 0xd7: 10, 0xd8: 18
}

/** Where the value of MessagePack ends that begins at `at`. */
function end (bytes: Buffer, at: number): number {
  const type = bytes[at]!
  const after = (start: number, values: number) => {
    for (let i = 0; i < values; i++) start = end(bytes, start)
    return start
  }
  if (type <= 0x7f || type >= 0xe0 || [0xc0, 0xc2, 0xc3].includes(type)) return at + 1
  if (type <= 0x8f) return after(at + 1, 2 * (type & 15))
  if (type <= 0x9f) return after(at + 1, type & 15)
  if (type <= 0xbf) return at + 1 + (type & 31)
  if (type === 0xc7) return at + 3 + bytes[at + 1]!
  if (type === 0xd9 || type === 0xc4) return at + 2 + bytes[at + 1]!
  if (type === 0xda || type === 0xc5) return at + 3 + bytes.readUInt16BE(at + 1)
  if (type === 0xdc) return after(at + 3, bytes.readUInt16BE(at + 1))
  if (type === 0xde) return after(at + 3, 2 * bytes.readUInt16BE(at + 1))
  const length = FIXED[type]
  if (length === undefined) throw new Error(`MessagePack type 0x${type.toString(16)}`)
  return at + length
}

async function serve (t: Test, schemas: object) {
  const server = new Server()
  const all = Object.entries(methods(schemas))
  server.addService(
    Object.fromEntries(all.map(([name, [takes, answers]]) => [name, {
      path: `/tfplugin5.Provider/${name}`,
      requestStream: false,
      responseStream: false,
      requestSerialize: (request: Message) => Buffer.from(request),
      requestDeserialize: (bytes: Buffer) => root.lookupType(takes).decode(bytes),
      responseSerialize: (answer: object) => {
        const type = root.lookupType(answers)
        return Buffer.from(type.encode(type.fromObject(answer)).finish())
      },
      responseDeserialize: (bytes: Buffer) => bytes
    }])),
    Object.fromEntries(all.map(([name, [,, answer]]): [string, handleUnaryCall<Message, object>] =>
      [name, ({ request }, callback) => callback(null, answer(request))]))
  )
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, port) => error === null ? resolve(port) : reject(error))
  })
  t.teardown(() => server.forceShutdown())
  return { Protocol: 'grpc', ProtocolVersion: 5, Pid: process.pid, Test: true, Addr: { Network: 'tcp', String: `127.0.0.1:${port}` } }
}

/** Environment with which Terraform takes these providers and asks no registry. */
export async function startProviders (t: Test): Promise<Record<string, string>> {
  const [ofGoogle, ofRandom] = await Promise.all([serve(t, google), serve(t, random)])
  const named = Object.entries({ google: ofGoogle, 'google-beta': ofGoogle, random: ofRandom })
    .map(([name, server]) => [`hashicorp/${name}`, server])
  return { TF_REATTACH_PROVIDERS: JSON.stringify(Object.fromEntries(named)) }
}
