/** A `credentialsProvider` of node-redis, which asks it for every new connection. */
export interface RedisCredentials {
  readonly type: 'async-credentials-provider'
  /** Rejects with what is wrong and what to do: the attempt to connect fails for that reason, and is repeated. */
  readonly credentials: () => Promise<{ username: string, password: string }>
  /** Where the password comes from, for people. It is no secret. */
  readonly origin: string
}
