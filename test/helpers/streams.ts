import type { Options as SdkOptions } from 'centrifuge'
import { EventSource } from 'eventsource'
import type { Test } from 'tap'
import { encodings, sdkClient } from './sdk.ts'
import type { Encoding, SdkClient } from './sdk.ts'

export type StreamTransport = 'http_stream' | 'sse'

/** What an SDK can speak where WebSockets are blocked. */
export const streamTransports: ReadonlyArray<readonly [transport: StreamTransport, encoding: Encoding]> = [
  ['http_stream', 'json'], ['http_stream', 'protobuf'], ['sse', 'json']
]

/** How an SDK speaks to the service. */
export interface Wire {
  readonly transport: 'websocket' | StreamTransport
  readonly encoding: Encoding
}

/** Every transport in every encoding that it has. */
export const wires: readonly Wire[] = [
  ...encodings.map(encoding => ({ transport: 'websocket', encoding } as const)),
  ...streamTransports.map(([transport, encoding]) => ({ transport, encoding }))
]

/** The name of a wire in the title of a test. */
export function nameOf ({ transport, encoding }: Wire): string {
  return transport === 'websocket' ? encoding : `${encoding} over ${transport}`
}

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

/**
 * An SDK client that speaks like this. `url`: of an instance, or of its WebSocket route with a query. `posts`: the
 * instance that gets the posts of a stream.
 */
export function wireClient (t: Test, url: string, { transport, encoding }: Wire, options: Partial<SdkOptions> = {}, posts = url): SdkClient {
  if (transport === 'websocket') return sdkClient(t, url, encoding, options)
  const { origin, search } = new URL(httpOf(url))
  return sdkClient(t, [{ transport, endpoint: `${origin}/connection/${transport}${search}` }], encoding, {
    eventsource: EventSource, emulationEndpoint: `${new URL(httpOf(posts)).origin}/emulation`, ...options
  })
}
