import type { Publication } from '../model/publication.ts'

/** What the hub tells of deliveries. */
export interface DeliveryObserver {
  /** False while nobody measures or traces deliveries: then `delivered` is not called. */
  readonly recording: boolean
  /** A publication was handed to the subscribers of this instance. */
  delivered (channel: string, publication: Publication): void
  /** `count` publications are lost for good. */
  missed (channel: string, count: number, reason: string): void
}
