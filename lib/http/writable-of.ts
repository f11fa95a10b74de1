import type { ServerResponse } from 'node:http'
import type { Http2ServerResponse } from 'node:http2'
import type { Duplex } from 'node:stream'

/** Where a response is written: itself, or the stream of HTTP/2 under it, as its response lacks some of a writable. */
export function writableOf (response: ServerResponse): ServerResponse | Duplex {
  return (response as unknown as Partial<Http2ServerResponse>).stream ?? response
}
