import { Server, ServerCredentials, credentials, status } from '@grpc/grpc-js'
import type { ServerUnaryCall, sendUnaryData } from '@grpc/grpc-js'
import { createRequire } from 'node:module'
import { promisify } from 'node:util'
import protobuf from 'protobufjs'
import type { Test } from 'tap'
import { internalClientOptions } from '../../lib/google/logging-client.ts'

export interface LoggingServer {
  /** What it was asked to write, request by request. */
  readonly requests: Array<{ logName: string, resource: Record<string, any>, labels: Record<string, string>, entries: Array<Record<string, any>> }>
  /** How it answers from now on: well, with this error, or never. */
  behave (how: keyof typeof status | 'hang'): void
  stop (): void
}

const root = createRequire(import.meta.url).resolve('@google-cloud/logging')
const protos: protobuf.INamespace = createRequire(root)('@google-cloud/logging-api/build/protos/protos.json')
const { WriteLogEntriesRequest, WriteLogEntriesResponse } = protobuf.Root.fromJSON(protos).lookup('google.logging.v2') as unknown as Record<string, protobuf.Type>

/** Cloud Logging's gRPC server on loopback, by Google's own protos. From now on the client of this process talks to it. */
export async function startLoggingServer (t: Test): Promise<LoggingServer> {
  let how: keyof typeof status | 'hang' = 'OK'
  const requests: LoggingServer['requests'] = []
  const server = new Server()
  server.addService({
    WriteLogEntries: {
      path: '/google.logging.v2.LoggingServiceV2/WriteLogEntries',
      requestStream: false,
      responseStream: false,
      requestSerialize: (request: object) => Buffer.from(WriteLogEntriesRequest!.encode(request).finish()),
      requestDeserialize: (bytes: Buffer) => WriteLogEntriesRequest!.toObject(WriteLogEntriesRequest!.decode(bytes), { enums: String, longs: Number }),
      responseSerialize: () => Buffer.from(WriteLogEntriesResponse!.encode({}).finish()),
      responseDeserialize: () => ({})
    }
  }, {
    WriteLogEntries ({ request }: ServerUnaryCall<LoggingServer['requests'][number], object>, answer: sendUnaryData<object>) {
      requests.push(request)
      if (how === 'OK') answer(null, {})
      else if (how !== 'hang') answer({ code: status[how], details: `the server says ${how}` })
    }
  })
  const port = await promisify(server.bindAsync.bind(server))('127.0.0.1:0', ServerCredentials.createInsecure())
  t.teardown(() => server.forceShutdown())
  Object.assign(internalClientOptions, { apiEndpoint: '127.0.0.1', port, sslCreds: credentials.createInsecure() })
  return { requests, behave: (next) => { how = next }, stop: () => server.forceShutdown() }
}

/** google.protobuf.Struct as the object that it stands for. */
export function plain ({ fields = {} }: { fields?: Record<string, any> }): Record<string, any> {
  return Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, plainValue(value)]))
}

function plainValue (value: Record<string, any>): unknown {
  if (value.structValue !== undefined) return plain(value.structValue)
  if (value.listValue !== undefined) return (value.listValue.values ?? []).map(plainValue)
  return value.nullValue !== undefined ? null : value.stringValue ?? value.numberValue ?? value.boolValue
}
