import type { Options as SdkOptions } from 'centrifuge'
import { EventSource } from 'eventsource'
import type { Test } from 'tap'
import { sdkClient } from './sdk.ts'
import type { Encoding, SdkClient } from './sdk.ts'

export type StreamTransport = 'http_stream' | 'sse'

/** What an SDK can speak where WebSockets are blocked. */
export const streamTransports: ReadonlyArray<readonly [transport: StreamTransport, encoding: Encoding]> = [
  ['http_stream', 'json'], ['http_stream', 'protobuf'], ['sse', 'json']
]

/** ws://… as http://… */
export function httpOf (url: string): string {
  return url.replace(/^ws/, 'http')
}

/** An SDK client that speaks one of these transports. Its posts may go to another address than its stream. */
export function streamClient (
  t: Test, url: string, transport: StreamTransport, encoding: Encoding, options: Partial<SdkOptions> = {}, posts = url
): SdkClient {
  return sdkClient(t, [{ transport, endpoint: `${httpOf(url)}/connection/${transport}` }], encoding, {
    eventsource: EventSource, emulationEndpoint: `${httpOf(posts)}/emulation`, ...options
  })
}
