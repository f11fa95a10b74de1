import websocket from '@fastify/websocket'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import type { WebSocket, WebSocketServer } from 'ws'
import { closeCodes } from '../model/close-codes.ts'
import type { ResolvedOptions } from '../options/resolve.ts'
import { refuseOtherUpgrades } from './other-routes.ts'

/** Chooses among the subprotocols that a client offers. false: none. */
type ChooseSubprotocol = (offered: ReadonlySet<string>) => string | false

/** What a client may have waiting here before there is a message, which `rateLimit` counts. */
export type ReadBounds = {
  /** Bytes of a message. */
  readonly maxPayload: number
  /** Fragments of a message: each costs 140 bytes, however small it is. */
  readonly maxFragments: number
  /** Reads from the socket of which a frame may consist. */
  readonly maxBufferedChunks: number
}

/** The bounds that hold for messages of clients. 0: there is none. undefined: this version of `ws` does not know it. */
export type ActualBounds = { readonly [name in keyof ReadBounds]: number | undefined }

/** At least so many fragments and reads, whatever `maxPayload` is; and one for so many bytes of it. */
const MIN_FRAGMENTS = 64
const BYTES_PER_FRAGMENT = 1_024
const MIN_BUFFERED_CHUNKS = 1_024
const BYTES_PER_CHUNK = 512
/** Milliseconds from a close frame to the end of the socket. A slow client reads what waits for it meanwhile. */
const CLOSE_TIMEOUT = 5_000

/**
 * What is negotiated with clients that offer compression. `ws` itself compresses nothing: `Compression` does it, once
 * for all clients. Neither side keeps what it has compressed before, so nothing stays in memory.
 */
const DEFLATE = {
  serverNoContextTakeover: true,
  clientNoContextTakeover: true,
  threshold: Infinity,
  zlibInflateOptions: { chunkSize: 4_096 } // a buffer of so many bytes for each message that is inflated
}

/**
 * Registers @fastify/websocket unless the app already has. Returns the bounds that its messages should have, and those
 * that they have, and whether clients cannot have the compression that the app wants.
 */
export async function registerWebSocketServer (
  app: FastifyInstance, { maxPayload, compression }: Pick<ResolvedOptions, 'maxPayload' | 'compression'>, handleProtocols: ChooseSubprotocol
): Promise<[wanted: ReadBounds, actual: ActualBounds, uncompressed: boolean]> {
  const wanted = {
    maxPayload,
    maxFragments: Math.max(MIN_FRAGMENTS, Math.ceil(maxPayload / BYTES_PER_FRAGMENT)),
    maxBufferedChunks: Math.max(MIN_BUFFERED_CHUNKS, Math.ceil(maxPayload / BYTES_PER_CHUNK))
  }
  if (!app.hasDecorator('websocketServer')) {
    const perMessageDeflate = compression !== false && DEFLATE
    const options = { ...wanted, perMessageDeflate, closeTimeout: CLOSE_TIMEOUT, handleProtocols } // @types/ws does not have closeTimeout
    await app.register(websocket, {
      options,
      preClose: done => done(), // its own would wait 30 s for one silent peer
      errorHandler: handlerFailed // its own would log as an error what a client does wrong
    })
    refuseOtherUpgrades(app)
    if (compression !== false) app.websocketServer.on('connection', releaseInflate)
  }
  app.server.on('upgrade', guardSocket)
  app.websocketServer.on('connection', releaseSocket)
  return [wanted, boundsOf(app.websocketServer), compression !== false && !app.websocketServer.options.perMessageDeflate]
}

function boundsOf (server: WebSocketServer): ActualBounds {
  const { maxPayload, maxFragments, maxBufferedChunks } = server.options
  // An older `ws` keeps options that it does not know. What it knows has a default.
  const { options: known } = new (server.constructor as typeof WebSocketServer)({ noServer: true })
  return {
    maxPayload,
    maxFragments: known.maxFragments && maxFragments,
    maxBufferedChunks: known.maxBufferedChunks && maxBufferedChunks
  }
}

/** Handles an error of a WebSocket route's handler. Errors of a client arrive here too, but `ws` is closing then. */
function handlerFailed (error: Error, socket: WebSocket, request: FastifyRequest): void {
  if (socket.readyState !== socket.OPEN) return
  request.log.error(error)
  socket.close(closeCodes.internalError.code, closeCodes.internalError.reason)
}

/**
 * Destroys the socket of an upgrade that was answered with a response. @fastify/websocket misses two cases: a hook
 * ahead of its own has answered, or the path cannot be decoded. Nobody reads from such a socket, so nobody would notice
 * that the client has gone, of a response that never ends neither: so one read is asked for, which finds the end unless
 * the client has sent something before. Versions before 11.3.3 do not listen for errors while hooks run either: a reset
 * would end the process.
 */
export function guardSocket (_request: IncomingMessage, socket: Duplex & { _httpMessage?: ServerResponse }): void {
  if (socket.listenerCount('error') === 0) socket.on('error', destroy)
  if (!socket._httpMessage) return
  socket._httpMessage.once('finish', () => socket.destroy())
  socket.once('end', destroy).read(0)
}

/** From the handshake on `ws` reads the socket, and handles its end. */
function releaseSocket (client: WebSocket): void {
  (client as unknown as { _socket: Duplex })._socket.off('end', destroy)
}

/** Browsers compress what they send. `ws` would keep for good what has inflated the first message. */
function releaseInflate (client: WebSocket): void {
  if (client.extensions !== '') client.on('message', freeInflate)
}

/** `ws` frees what inflates, and makes it again for the next message. It has nothing that deflates. */
function freeInflate (this: WebSocket): void {
  (this as unknown as { _extensions: { 'permessage-deflate': { cleanup (): void } } })._extensions['permessage-deflate'].cleanup()
}

function destroy (this: Duplex): void {
  this.destroy()
}
