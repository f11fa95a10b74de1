/** What a plan is made of. */
export interface Input {
  /** Open at once, at the peak. */
  readonly connections: number
  /** Open at once, as a mean over the month. */
  readonly average: number
  /** Published per second at the peak, in all channels together. */
  readonly messages: number
  /** Connections in a channel, at the peak. Infinity: all. */
  readonly channelSize: number
  /** Channels of each connection. */
  readonly channels: number
  /** Bytes of a message. */
  readonly size: number
  /** Publications that each channel keeps. */
  readonly history: number
  readonly presence: boolean
  readonly sdk: boolean
  readonly region: string
  /** Share of the concurrency to which Cloud Run fills an instance. */
  readonly target: number
  readonly concurrency: number
  /** Of an instance, or of a pod. */
  readonly vcpu: number
  /** GiB. */
  readonly memory: number
  readonly minInstances: number
  /** Connections of an instance, if not concurrency times target. */
  readonly perInstance: number | undefined
  readonly redis: 'valkey' | 'redis'
  readonly replicas: number
  /** In front of Cloud Run. */
  readonly loadBalancer: boolean
  /** Minutes that a connection has to be able to stay open. */
  readonly lifetime: number
  readonly traffic: 'steady' | 'bursty' | 'unknown'
  /** Whether the team runs Kubernetes. */
  readonly kubernetes: boolean
  /** Connections of each user. */
  readonly tabs: number
}

/** The same app with another number of connections at the peak: everything else grows or shrinks with them. */
export function scaled (input: Input, connections: number): Input {
  const factor = connections / input.connections
  return { ...input, connections, average: input.average * factor, messages: input.messages * factor }
}
