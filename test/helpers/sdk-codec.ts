import { Centrifuge } from 'centrifuge/build/protobuf'
import WebSocket from 'ws'
import type { Encoding } from './sdk.ts'

/** The official SDK's own Protobuf code, generated from the official schema: what both sides have to agree on. */
interface SdkCodec {
  encodeCommands (commands: object[]): Uint8Array
  decodeReplies (data: Uint8Array): any[]
}

export const sdkCodec: SdkCodec = (new Centrifuge('ws://127.0.0.1:1', { websocket: WebSocket }) as unknown as { _codec: SdkCodec })._codec

/**
 * Commands in one WebSocket message, as an SDK sends them: a string in JSON. `data` is a value, or bytes to be sent as
 * they are.
 */
export function encodeCommands (encoding: Encoding, commands: object[]): string | Buffer {
  return encoding === 'json' ? commands.map(command => JSON.stringify(command)).join('\n') : toProtobuf(commands)
}

export function toProtobuf (commands: object[]): Buffer {
  return Buffer.from(sdkCodec.encodeCommands(commands.map(withBytes)))
}

/** `data` as a Protobuf client sends it: JSON in bytes. */
function withBytes (value: any): any {
  if (typeof value !== 'object' || value === null || Buffer.isBuffer(value)) return value
  if (Array.isArray(value)) return value.map(withBytes)
  return Object.fromEntries(Object.entries(value).map(([key, member]) => {
    const isValue = key === 'data' && !Buffer.isBuffer(member)
    return [key, isValue ? Buffer.from(JSON.stringify(member)) : withBytes(member)]
  }))
}
