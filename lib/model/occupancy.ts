/** What can be occupied: a channel by subscribers, or a user by connections. */
export type OccupancyKind = 'channels' | 'users'

/** Milliseconds without a sign of life after which an instance counts as crashed, and holds nothing any more. */
export const OCCUPANCY_TTL = 60_000

/** Takes what an occupancy reports to its instance. MUST NOT throw. */
export interface OccupancyListener {
  /** Nobody held the subject before, and this instance holds it now. Only one instance gets this call. */
  occupied (subject: string): void
  /** Nobody has held the subject for the grace period. Only one instance gets this call. */
  vacated (subject: string): void
  /** A command failed. A later sweep repeats it. */
  failed (error: unknown): void
}

/**
 * Who holds the subjects of one kind, on all instances. A subject is occupied from the moment that an instance enters
 * it until nobody has held it for the grace period. Each change is reported to one instance only, and at most once.
 */
export interface Occupancy {
  /** This instance holds these subjects from now on. MUST NOT reject: a later sweep repeats what has failed. */
  enter (subjects: readonly string[]): Promise<void>
  /** This instance no longer holds these subjects. MUST NOT reject: a later sweep repeats what has failed. */
  leave (subjects: readonly string[]): Promise<void>
  /**
   * Reports the changes that are due, repeats what has failed, and gives a sign of life. To be called about once a
   * second. MUST NOT reject.
   * @param now Unix time in milliseconds.
   * @param held All that this instance holds at the time of the call.
   */
  sweep (now: number, held: () => Iterable<string>): Promise<void>
  /** The stored data may be older than what this instance has entered and left. The next sweep compares the two. */
  recheck (): void
}

/** Where an occupancy is kept, and for whom. */
export interface OccupancySettings {
  readonly kind: OccupancyKind
  /** Id of the instance. */
  readonly instance: string
  /** Milliseconds. */
  readonly gracePeriod: number
}
