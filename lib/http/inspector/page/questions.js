/* global AbortSignal, fetch, FormData, location */
// What the page asks the server, and for what it shows.
import { page } from './dom.js'

/** ms that an answer may take. */
const TIMEOUT = 10_000

/** Where we are: `#/connections`, `#/channels`, or `#/channel/NAME`. No server sees that part of an address. */
export function place () {
  const [, show = '', name = ''] = /^#\/([a-z]+)(?:\/(.*))?$/s.exec(location.hash) ?? []
  if (show === 'channel' && name !== '') return { show, name: decodeName(name) }
  return { show: show === 'channels' ? 'channels' : 'connections' }
}

function decodeName (name) {
  try {
    return decodeURIComponent(name)
  } catch {
    return name // somebody has typed it
  }
}

export function addressOf (channel) {
  return `#/channel/${encodeURIComponent(channel.toWellFormed?.() ?? channel)}`
}

export function view () {
  const { show, name } = place()
  const form = show === 'channels' ? page['channels-filter'] : page['connections-filter']
  const filled = Array.from(new FormData(form)).filter(([field, value]) => value !== '' && !(show === 'channel' && field === 'channel'))
  return { show, ...(name !== undefined && { name }), ...Object.fromEntries(filled) }
}

/**
 * The answer of the server.
 * @throws an error with the code and the message of its refusal
 */
export async function post (path, body) {
  const response = await fetch(new URL(path, import.meta.url), {
    method: 'POST',
    // The last one makes Identity-Aware Proxy answer 401 in place of a redirect to its login.
    headers: { 'content-type': 'application/json', 'x-requested-with': 'XMLHttpRequest' },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(TIMEOUT)
  })
  const answer = await response.json().catch(() => ({}))
  if (response.ok) return answer
  throw Object.assign(new Error(answer.message ?? `the server answered ${response.status}`), { status: response.status, code: answer.code })
}
