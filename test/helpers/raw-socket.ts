import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import type { Test } from 'tap'
import { until } from './until.ts'

export interface RawSocket {
  socket: Socket
  /** Everything received so far. */
  received (): Buffer
  /** Resolves at the end of the connection, with everything received. */
  ended: Promise<Buffer>
  /** Resolves with the head of the answer to the upgrade. */
  head (): Promise<string>
}

/** Opens a TCP connection, for bytes that no WebSocket client would send. */
export async function openRaw (t: Test, url: string): Promise<RawSocket> {
  const { hostname, port } = new URL(url)
  const socket = connect(Number(port), hostname)
  t.teardown(() => socket.destroy())
  const chunks: Buffer[] = []
  socket.on('data', chunk => chunks.push(chunk))
  socket.on('error', () => {}) // 'close' follows a reset too
  await once(socket, 'connect')
  const received = () => Buffer.concat(chunks)
  const ended = new Promise<Buffer>(resolve => socket.on('close', () => resolve(received())))
  const head = () => until(() => {
    const text = received().toString('latin1')
    return text.slice(0, Math.max(0, text.indexOf('\r\n\r\n')))
  }, 'the answer to the upgrade')
  return { socket, received, ended, head }
}

/** The bytes of an upgrade. Headers that are undefined are left out. */
export function upgradeRequest (path: string, headers: Record<string, string | undefined> = {}): string {
  const all: Record<string, string | undefined> = {
    Host: 'localhost',
    Connection: 'Upgrade',
    Upgrade: 'websocket',
    'Sec-WebSocket-Version': '13',
    'Sec-WebSocket-Key': randomBytes(16).toString('base64'),
    ...headers
  }
  const lines = Object.entries(all).filter(([, value]) => value !== undefined).map(([name, value]) => `${name}: ${value}\r\n`)
  return `GET ${path} HTTP/1.1\r\n${lines.join('')}\r\n`
}

/** A frame as a client sends it. */
export function frame (opcode: number, payload: string | Buffer, { fin = true, masked = true, rsv = 0 } = {}): Buffer {
  const data = Buffer.from(payload)
  const size = data.length < 126
    ? Buffer.from([data.length])
    : Buffer.from([126, data.length >> 8, data.length & 255])
  if (masked) size[0]! |= 0x80
  const mask = masked ? randomBytes(4) : Buffer.alloc(0)
  const body = masked ? data.map((byte, i) => byte ^ mask[i % 4]!) : data
  return Buffer.concat([Buffer.from([(fin ? 0x80 : 0) | rsv << 4 | opcode]), size, mask, body])
}

export const TEXT = 1
export const BINARY = 2
export const CLOSE = 8
export const PING = 9
