// How each kind of server is spoken to. A wire finds the messages in a frame by their place in it, without parsing it.
import { channelName, MESSAGE_BYTES } from './message.mjs'

const TEXT = 1
const BINARY = 2
const NEWLINE = 10
const QUOTE = 34
const DOT = 46
const LETTER_P = 112

/** A masked frame; the mask is zero, so that the payload stays as it is. */
export function frame (opcode, payload) {
  const bytes = Buffer.from(payload)
  const { length } = bytes
  const header = length < 126 ? [0x80 | opcode, 0x80 | length] : [0x80 | opcode, 0x80 | 126, length >> 8, length & 0xff]
  return Buffer.concat([Buffer.from([...header, 0, 0, 0, 0]), bytes])
}

const query = (role, channels) => `role=${role}&channels=${channels.map(channelName).join()}`

/** One message per frame, between a prefix and a suffix. `other` gets the text of all other frames. */
function single ({ path, prefix = '', suffix = '', other }) {
  const offset = prefix.length
  const length = offset + MESSAGE_BYTES + suffix.length
  return {
    path: (role, channels) => path + query(role, channels),
    opened () {},
    publication: message => frame(TEXT, prefix + message + suffix),
    read (client, bytes, at, end, now) {
      if (end - at === length) client.message(bytes, at + offset, now)
      else other(client, bytes.toString('latin1', at, end))
    }
  }
}

const plain = single({
  path: '/ws?',
  other (client, text) {
    if (text === 'ready') client.ready()
  }
})

const socketIo = single({
  path: '/socket.io/?EIO=4&transport=websocket&',
  prefix: '42["m","',
  suffix: '"]',
  other (client, text) {
    if (text.startsWith('0{')) client.socket.write(frame(TEXT, '40'))
    else if (text.startsWith('40{')) client.ready()
    else if (text === '2') client.socket.write(frame(TEXT, '3'))
  }
})

/** JSON: one reply per line. The data of a publication is a string, as the publisher's was. */
const JSON_OFFSET = `{"push":{"channel":"${channelName(0)}","pub":{"data":"`.length

const json = {
  path: () => '/connection/websocket',
  /** In one frame, as the SDKs do it. */
  opened (client) {
    const subscribes = client.channels.map((channel, i) => ({ id: i + 2, subscribe: { channel: channelName(channel) } }))
    const commands = [{ id: 1, connect: {} }, ...subscribes]
    client.unanswered = commands.length
    client.socket.write(frame(TEXT, commands.map(command => JSON.stringify(command)).join('\n')))
  },
  read (client, bytes, at, end, now) {
    let line = at
    while (line < end) {
      const message = line + JSON_OFFSET
      const found = bytes[line + 2] === LETTER_P && message + MESSAGE_BYTES < end &&
        bytes[message - 1] === QUOTE && bytes[message + MESSAGE_BYTES - 1] === DOT
      let lineEnd = found ? message + MESSAGE_BYTES : line
      while (lineEnd < end && bytes[lineEnd] !== NEWLINE) lineEnd++
      if (found) client.message(bytes, message, now)
      else jsonReply(client, bytes.toString('latin1', line, lineEnd))
      line = lineEnd + 1
    }
  }
}

function jsonReply (client, text) {
  if (text === '{}') client.socket.write(frame(TEXT, '{}'))
  else if (text.includes('"error":{')) client.fail(new Error(text))
  else if (text.startsWith('{"id":')) client.answered()
}

/** Each Protobuf reply follows its length. All lengths around our messages take two bytes. Data is a JSON string. */
const CHANNEL_FIELD = 2 + channelName(0).length
const PROTOBUF_OFFSET = 2 + (1 + 2) + CHANNEL_FIELD + (1 + 2) + (1 + 2) + 1
/** Tags of Command and Reply (see lib/protocols/centrifugal/schema.ts): a field number and its type. */
const tag = (field, type) => field << 3 | type
const ID = tag(1, 0)
const ERROR = tag(2, 2)
const PUSH = tag(4, 2)
const DELIMITED = 2

const protobuf = {
  path: () => '/connection/websocket?format=protobuf',
  opened (client) {
    const subscribes = client.channels.map((channel, i) => subscribeCommand(i + 2, channelName(channel)))
    const commands = [Buffer.from([ID, 1, tag(4, DELIMITED), 0]), ...subscribes]
    client.unanswered = commands.length
    client.socket.write(frame(BINARY, Buffer.concat(commands.flatMap(command => [Buffer.from([command.length]), command]))))
  },
  read (client, bytes, at, end, now) {
    let reply = at
    while (reply < end) {
      let size = bytes[reply]
      let body = reply + 1
      if (size > 127) size = size & 127 | bytes[body++] << 7
      const message = reply + PROTOBUF_OFFSET
      const found = size > MESSAGE_BYTES && bytes[body] === PUSH &&
        bytes[message - 1] === QUOTE && bytes[message + MESSAGE_BYTES] === QUOTE
      if (found) client.message(bytes, message, now)
      else protobufReply(client, bytes, body, size)
      reply = body + size
    }
  }
}

/** Ids and names are short enough for lengths of one byte. */
function subscribeCommand (id, name) {
  return Buffer.concat([Buffer.from([ID, id, tag(5, DELIMITED), name.length + 2, tag(1, DELIMITED), name.length]), Buffer.from(name)])
}

function protobufReply (client, bytes, at, size) {
  if (size === 0) client.socket.write(frame(BINARY, [0]))
  else if (bytes[at] === ID && bytes[at + 2] === ERROR) client.fail(new Error(bytes.toString('latin1', at, at + size)))
  else if (bytes[at] === ID) client.answered()
}

export const wires = { plain, 'socket.io': socketIo, json, protobuf }
