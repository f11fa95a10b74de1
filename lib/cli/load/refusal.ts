import type { IncomingMessage } from 'node:http'

/** Bytes of an answer that are read for its reason. */
const MAX_BODY = 4_096
const REDIRECTS = [301, 302, 303, 307, 308]
/** Statuses after which the same request may succeed. */
const TEMPORARY = [408, 425, 429, 500, 502, 503, 504]

export interface Refusal {
  /** The status, and the code or the words of the server. */
  readonly reason: string
  /** Trying again would be pointless. */
  readonly final: boolean
}

/** Reads why an upgrade was refused. Rejects if the connection breaks meanwhile. */
export async function refusalOf (response: IncomingMessage): Promise<Refusal> {
  const { statusCode: status = 0, statusMessage = '', headers } = response
  let body = ''
  for await (const chunk of response.setEncoding('utf8')) {
    body += chunk
    if (body.length > MAX_BODY) break
  }
  const words = REDIRECTS.includes(status) ? `redirect to ${headers.location}, not followed` : codeIn(body) ?? statusMessage
  return { reason: `${status} ${words}`, final: !TEMPORARY.includes(status) }
}

/** The code of an error that Fastify answers with. */
function codeIn (body: string): string | undefined {
  try {
    const { code, error } = Object(JSON.parse(body))
    return [code, error].find(value => typeof value === 'string')
  } catch {
    return undefined // it is not JSON: a proxy's page, or nothing
  }
}
