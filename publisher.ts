// What a process imports that only publishes. The main entry has the same, and loads what a server needs besides.
export { createPublisher } from './lib/core/create-publisher.ts'
export type { StandalonePublisher } from './lib/core/create-publisher.ts'
export type { PublisherLogger, PublisherOptions } from './lib/options/publisher-options.ts'
