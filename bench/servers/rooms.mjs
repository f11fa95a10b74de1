import { channelOf, refused } from './measured.mjs'
import { connectRedis } from './redis-pubsub.mjs'

/** For the servers that are written by hand: who is in which channel, and Redis Pub/Sub between the instances. */
export class Rooms {
  #deliver
  #bytes
  #redis
  #rooms = new Map()

  constructor (deliver, bytes, redis) {
    this.#deliver = deliver
    this.#bytes = bytes
    this.#redis = redis
  }

  /** `deliver` gets the members of a channel and a message, as text or, with `bytes`, as a Buffer. */
  static async open (deliver, { bytes = false } = {}) {
    return new Rooms(deliver, bytes, await connectRedis())
  }

  /** Resolves when messages will arrive. */
  async join (name, member) {
    let room = this.#rooms.get(name)
    if (room === undefined) {
      const members = new Set()
      room = { members, ready: this.#redis.subscriber.subscribe(name, message => this.#deliver(members, message), this.#bytes) }
      this.#rooms.set(name, room)
    }
    room.members.add(member)
    await room.ready
  }

  leave (name, member) {
    this.#rooms.get(name)?.members.delete(member)
  }

  /** To the channel that the message itself names. */
  publish (message) {
    this.#redis.publisher.publish(channelOf(message.toString('latin1')), message).catch(refused)
  }
}
