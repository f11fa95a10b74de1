/** What can be occupied: a channel by subscribers, or a user by connections. */
export type OccupancyKind = 'channels' | 'users'

/** Milliseconds without a sign of life after which an instance holds nothing any more: it has crashed. */
export const OCCUPANCY_TTL = 60_000

/** What an occupancy calls for its instance. MUST NOT throw. */
export interface OccupancyListener {
  /** Nobody held the subject, and this instance holds it now. Told to one instance. */
  occupied (subject: string): void
  /** Nobody has held the subject for the grace period. Told to one instance. */
  vacated (subject: string): void
  /** A command failed. What it was for is made good at a later sweep. */
  failed (error: unknown): void
}

/**
 * Who holds the subjects of one kind, on all instances. A subject is occupied from the moment that an instance enters
 * it until nobody has held it for the grace period. Each change is told to exactly one instance, at most once.
 */
export interface Occupancy {
  /** This instance holds these subjects from now on. MUST NOT reject; what fails is made good at a later sweep. */
  enter (subjects: readonly string[]): Promise<void>
  /** This instance holds these no more. MUST NOT reject; what fails is made good at a later sweep. */
  leave (subjects: readonly string[]): Promise<void>
  /**
   * Tells what is due, makes good what has failed, and gives a sign of life. To be called about once a second. MUST NOT
   * reject.
   * @param now Unix time in milliseconds.
   * @param held All that this instance holds at the time of the call.
   */
  sweep (now: number, held: () => Iterable<string>): Promise<void>
  /** What is stored may be older than what this instance has entered and left: the next sweep compares. */
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
