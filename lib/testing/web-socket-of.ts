import { WebSocket } from 'ws'
import { connectTo } from './loopback.ts'
import type { TestedApp } from './loopback.ts'

/**
 * Returns a WebSocket constructor whose sockets lead to an app that need not listen, for the option `websocket` of the
 * SDK for JavaScript. Of the URL only the path counts. A function is asked at every connect, so that a client finds
 * another app when it comes back.
 */
export function webSocketOf (app: TestedApp | (() => TestedApp)): new (url: string, protocols?: string | string[]) => object {
  return class extends WebSocket {
    constructor (url: string, protocols?: string | string[]) {
      super(url, protocols, { createConnection: () => connectTo(typeof app === 'function' ? app() : app) })
    }
  }
}
