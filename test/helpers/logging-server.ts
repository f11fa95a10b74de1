import { v2 } from '@google-cloud/logging'
import { Server, ServerCredentials, credentials, status } from '@grpc/grpc-js'
import type { ServerUnaryCall, sendUnaryData } from '@grpc/grpc-js'
import { createRequire } from 'node:module'
import { promisify } from 'node:util'
import protobuf from 'protobufjs'
import type { Test } from 'tap'

/** google.protobuf.Struct and its Value, as far as log entries use them. */
export interface Struct { fields?: Record<string, StructValue> }
interface StructValue {
  structValue?: Struct
  listValue?: { values?: StructValue[] }
  nullValue?: unknown
  stringValue?: string
  numberValue?: number
  boolValue?: boolean
}

export interface LogEntry {
  [field: string]: unknown
  jsonPayload: Struct
  insertId: string
  timestamp: { seconds: number }
  operation: { id: string }
}

export interface WriteRequest {
  logName: string
  resource: Record<string, unknown>
  labels: Record<string, string>
  entries: LogEntry[]
}

export interface LoggingServer {
  /** The requests that came. */
  readonly requests: WriteRequest[]
  /** Sets how it answers from now on: well, with this error, or never. */
  behave (how: keyof typeof status | 'hang'): void
  stop (): void
}

const root = createRequire(import.meta.url).resolve('@google-cloud/logging')
const protos: protobuf.INamespace = createRequire(root)('@google-cloud/logging-api/build/protos/protos.json')
const types = protobuf.Root.fromJSON(protos)
const WriteLogEntriesRequest = types.lookupType('google.logging.v2.WriteLogEntriesRequest')
const WriteLogEntriesResponse = types.lookupType('google.logging.v2.WriteLogEntriesResponse')

const { LoggingServiceV2Client } = v2

/** Makes new clients of `@google-cloud/logging` connect to this port, by their public options. */
function connectClientsTo (port: number): void {
  const options = { apiEndpoint: '127.0.0.1', port, sslCreds: credentials.createInsecure() }
  class LocalClient extends LoggingServiceV2Client {
    constructor () { super(options) }
  }
  Object.assign(v2, { LoggingServiceV2Client: LocalClient })
}

/** Starts Cloud Logging's gRPC server on loopback, by Google's own protos. New clients in this process talk to it. */
export async function startLoggingServer (t: Test): Promise<LoggingServer> {
  let how: keyof typeof status | 'hang' = 'OK'
  const requests: LoggingServer['requests'] = []
  const server = new Server()
  server.addService({
    WriteLogEntries: {
      path: '/google.logging.v2.LoggingServiceV2/WriteLogEntries',
      requestStream: false,
      responseStream: false,
      requestSerialize: (request: object) => Buffer.from(WriteLogEntriesRequest.encode(request).finish()),
      requestDeserialize: (bytes: Buffer) => {
        return WriteLogEntriesRequest.toObject(WriteLogEntriesRequest.decode(bytes), { enums: String, longs: Number })
      },
      responseSerialize: () => Buffer.from(WriteLogEntriesResponse.encode({}).finish()),
      responseDeserialize: () => ({})
    }
  }, {
    WriteLogEntries ({ request }: ServerUnaryCall<WriteRequest, object>, answer: sendUnaryData<object>) {
      requests.push(request)
      if (how === 'OK') answer(null, {})
      else if (how !== 'hang') answer({ code: status[how], details: `the server says ${how}` })
    }
  })
  const port = await promisify(server.bindAsync.bind(server))('127.0.0.1:0', ServerCredentials.createInsecure())
  t.teardown(() => server.forceShutdown())
  connectClientsTo(port)
  return { requests, behave: (next) => { how = next }, stop: () => server.forceShutdown() }
}

/** The object that a google.protobuf.Struct stands for. */
export function plain ({ fields = {} }: Struct): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, plainValue(value)]))
}

function plainValue (value: StructValue): unknown {
  if (value.structValue !== undefined) return plain(value.structValue)
  if (value.listValue !== undefined) return (value.listValue.values ?? []).map(plainValue)
  return value.nullValue !== undefined ? null : value.stringValue ?? value.numberValue ?? value.boolValue
}
