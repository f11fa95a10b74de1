import { createClient } from 'redis'
import type { RedisSource } from '../../options/redis-source.ts'
import { describeError, duplicateClient, linkOptions } from './client.ts'
import type { RedisClient } from './client.ts'
import { Login } from './login.ts'
import { isUnusable } from './replies.ts'

/** The server that a link connects to. */
export interface Endpoint {
  /** Creates the client for the next connection. A promise where the address is looked up first. */
  newClient (): RedisClient | Promise<RedisClient>
  /** Returns why the server of this client must not be used; undefined if nothing is known against it. */
  objection? (client: RedisClient): Promise<string | undefined>
  /** Says more about why a connection did not come about, where something is known. */
  readonly login?: Login
}

/** One address, at which another server may answer after a failover. */
export class StandaloneEndpoint implements Endpoint {
  readonly login: Login
  readonly #source: RedisSource & { kind: 'standalone' | 'client' }

  constructor (source: RedisSource & { kind: 'standalone' | 'client' }) {
    this.#source = source
    this.login = new Login(source)
  }

  newClient (): RedisClient {
    return this.#source.kind === 'standalone'
      ? createClient(linkOptions(this.#source.options)) as RedisClient
      : duplicateClient(this.#source.client)
  }

  objection (client: RedisClient): Promise<string | undefined> {
    return objectionToRole(client)
  }
}

/**
 * Returns why a server takes no writes: it is a replica, or loads its data. HELLO tells the role to every user: no ACL
 * can forbid it. A server that does not tell is taken for a primary.
 */
export async function objectionToRole (client: RedisClient): Promise<string | undefined> {
  const [hello, ping] = await Promise.all([['HELLO', '3'], ['PING']].map(command => client.sendCommand(command).catch(describeError)))
  if (isUnusable(String(ping))) return String(ping)
  return hello instanceof Map && hello.get('role') === 'replica' ? 'the server is a replica' : undefined
}
