import { once } from 'node:events'
import { request } from 'node:http'
import type { ClientRequest, IncomingHttpHeaders, IncomingMessage } from 'node:http'
import { text } from 'node:stream/consumers'
import type { Test } from 'tap'
import { httpOf } from './streams.ts'
import { until } from './until.ts'

/** One event as a browser would dispatch it. */
export interface SentEvent {
  readonly type: string
  readonly data: any
  /** The id that the client would come back with after this event. */
  readonly lastEventId: string
}

/** A client that reads events as the standard says (html.spec.whatwg.org, 9.2.6), and keeps the bytes. */
export interface EventClient {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  /** Of what is no stream. */
  readonly body: any
  readonly events: SentEvent[]
  readonly lastEventId: string
  readonly retry: number | undefined
  readonly text: string
  readonly comments: number
  /** True when the server has ended the stream, or cut it. */
  readonly ended: boolean
  /** Data of the events of channels, in order. */
  data (channel?: string): unknown[]
  /** Resolves to the event of this number, counted from 0. */
  event (index: number): Promise<SentEvent>
  close (): void
}

export interface EventClientOptions {
  lastEventId?: string | undefined
  headers?: Record<string, string>
  query?: string
}

/** Opens `/connection/uni_sse` of an instance for these channels. */
export async function events (t: Pick<Test, 'teardown'>, url: string, channels: string[], options: EventClientOptions = {}): Promise<EventClient> {
  const { lastEventId, headers = {}, query = '' } = options
  const client = new Client()
  t.teardown(() => client.close())
  const names = channels.map(channel => `channel=${encodeURIComponent(channel)}`).join('&')
  await client.open(`${httpOf(url)}/connection/uni_sse?${names}${query}`, {
    accept: '*/*', ...headers, ...(lastEventId !== undefined && { 'last-event-id': lastEventId })
  })
  return client
}

class Client implements EventClient {
  status = 0
  headers: IncomingHttpHeaders = {}
  body: any
  readonly events: SentEvent[] = []
  lastEventId = ''
  retry: number | undefined
  text = ''
  comments = 0
  ended = false
  #request: ClientRequest | undefined
  #rest = ''
  #fields = { type: '', data: [] as string[], id: '' }

  async open (url: string, headers: Record<string, string>): Promise<void> {
    this.#fields.id = this.lastEventId = headers['last-event-id'] ?? ''
    // No `fetch`: after an abort it opens a connection for the next request, which would keep the server open.
    this.#request = request(url, { headers, agent: false }).on('error', () => {}).end()
    const [response] = await once(this.#request, 'response') as [IncomingMessage]
    this.status = response.statusCode!
    this.headers = response.headers
    if (!response.headers['content-type']?.startsWith('text/event-stream')) {
      const body = await text(response)
      this.body = body === '' ? undefined : JSON.parse(body)
      this.ended = true
      return
    }
    this.#read(response).catch(() => {}).then(() => { this.ended = true })
  }

  data (channel?: string): unknown[] {
    const messages = this.events.filter(({ type, data }) => type === 'message' && 'data' in data && (channel === undefined || data.channel === channel))
    return messages.map(({ data }) => data.data)
  }

  async event (index: number): Promise<SentEvent> {
    await until(() => this.events.length > index, `event ${index}, after ${JSON.stringify(this.events)}`)
    return this.events[index]!
  }

  close (): void {
    this.#request?.destroy()
  }

  async #read (body: IncomingMessage): Promise<void> {
    const decoder = new TextDecoder()
    for await (const chunk of body) {
      const text = decoder.decode(chunk, { stream: true })
      this.text += text
      const lines = (this.#rest + text).split('\n')
      this.#rest = lines.pop()!
      for (const line of lines) this.#line(line)
    }
  }

  #line (line: string): void {
    if (line === '') return this.#dispatch()
    const colon = line.indexOf(':')
    const name = colon === -1 ? line : line.slice(0, colon)
    const value = colon === -1 ? '' : line.slice(colon + 1).replace(/^ /, '')
    if (name === '') this.comments++
    else if (name === 'event') this.#fields.type = value
    else if (name === 'data') this.#fields.data.push(value)
    else if (name === 'id') this.#fields.id = value
    else if (name === 'retry') this.retry = Number(value)
    else throw new Error(`a line that is no field: ${line}`)
  }

  #dispatch (): void {
    const { type, data, id } = this.#fields
    this.#fields = { type: '', data: [], id }
    this.lastEventId = id
    if (data.length > 0) this.events.push({ type: type || 'message', data: JSON.parse(data.join('\n')), lastEventId: id })
  }
}
