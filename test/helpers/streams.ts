import type { Options as SdkOptions } from 'centrifuge'
import { EventSource } from 'eventsource'
import type { Test } from 'tap'
import type { App } from './app.ts'
import { encodings, sdkClient } from './sdk.ts'
import type { Encoding, SdkClient } from './sdk.ts'
import { until } from './until.ts'

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

/**
 * An SDK client that speaks one of these transports. `url`: of an instance, or of its WebSocket route with a query.
 * `posts`: the instance that gets the posts of the stream.
 */
export function streamClient (
  t: Test, url: string, transport: StreamTransport, encoding: Encoding, options: Partial<SdkOptions> = {}, posts = url
): SdkClient {
  const { origin, search } = new URL(httpOf(url))
  return sdkClient(t, [{ transport, endpoint: `${origin}/connection/${transport}${search}` }], encoding, {
    eventsource: EventSource, emulationEndpoint: `${new URL(httpOf(posts)).origin}/emulation`, ...options
  })
}

/** The address of the other instance. That of a balancer is its own. */
export function otherOf (url: string, one: App, two: App): string {
  if (url.startsWith(one.url)) return two.url
  return url.startsWith(two.url) ? one.url : url
}

/** An SDK client that speaks like this, see `streamClient`. */
export function wireClient (
  t: Test, url: string, { transport, encoding }: Wire, options: Partial<SdkOptions> = {}, posts = url
): SdkClient {
  return transport === 'websocket' ? sdkClient(t, url, encoding, options) : streamClient(t, url, transport, encoding, options, posts)
}

/** One line of a stream in JSON. */
export type Reply = Record<string, any>

export interface RawStream {
  readonly response: Response
  /** All replies and pushes so far. */
  readonly replies: Reply[]
  /** Waits for the reply to this command, or for the push with this field. */
  reply (id: number): Promise<Reply>
  push (name: string): Promise<Reply>
  /** Resolves when the server has ended the stream. Rejects if it was cut. */
  readonly ended: Promise<void>
  /** The client goes away. */
  abort (): void
  /** Posts commands over the stream. `to`: another instance. */
  post (commands: Reply | Reply[], to?: string): Promise<Response>
}

/** A client of `http_stream` in JSON without an SDK. `connect`: commands, or the body itself. */
export async function openStream (
  t: Test, url: string, connect: Reply | Reply[] | string = { id: 1, connect: {} }, headers: Record<string, string> = {}
): Promise<RawStream> {
  const aborting = new AbortController()
  t.teardown(() => aborting.abort())
  const body = typeof connect === 'string' ? connect : linesOf(connect)
  const response = await fetch(`${httpOf(url)}/connection/http_stream`, {
    method: 'POST', body, signal: aborting.signal, headers: { 'content-type': 'application/json', ...headers }
  })
  const replies: Reply[] = []
  const ended = response.status === 200 ? read(response, replies) : Promise.resolve()
  ended.catch(() => {}) // for whoever awaits it
  const find = (wanted: (reply: Reply) => boolean, what: string) =>
    until(() => replies.find(wanted), what) as Promise<Reply>
  return {
    response,
    replies,
    ended,
    reply: id => find(reply => reply.id === id, `the reply ${id}`),
    push: async name => (await find(({ push }) => push?.[name] !== undefined, `the push ${name}`)).push[name],
    abort: () => aborting.abort(),
    async post (commands, to = url) {
      const { session, node } = (await find(({ connect }) => connect !== undefined, 'the reply to connect')).connect
      return post(to, { session, node, data: linesOf(commands) })
    }
  }
}

/** Sends a post as it is. */
export function post (url: string, body: unknown, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(`${httpOf(url)}/emulation`, {
    method: 'POST',
    body: typeof body === 'string' ? body : JSON.stringify(body),
    headers: { 'content-type': 'application/json', ...headers }
  })
}

function linesOf (commands: Reply | Reply[]): string {
  return [commands].flat().map(command => JSON.stringify(command)).join('\n')
}

async function read ({ body }: Response, replies: Reply[]): Promise<void> {
  let rest = ''
  for await (const chunk of body!.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + chunk).split('\n')
    rest = lines.pop()!
    replies.push(...lines.map(line => JSON.parse(line) as Reply))
  }
}
