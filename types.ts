// Types for clients, of TypeScript alone: `import type { TypedClient } from 'fastify-cloud-run-websocket/types'`.
export type { ClientTypes, SdkClientLike, SdkSubscriptionLike, TypedClient, TypedSubscription } from './lib/model/client-types.ts'
