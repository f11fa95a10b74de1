import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Test } from 'tap'

/** Google's metadata server on loopback. Its `env` makes this package and Google's own libraries ask it. */
export interface MetadataServer {
  readonly env: Record<string, string>
  /** The requested paths below /computeMetadata/v1. */
  readonly asked: string[]
  /** Answers by path: `undefined` gives 404, 'hang' never answers. */
  readonly values: Record<string, string | undefined>
  /** How long its tokens live. */
  readonly lifetime: { seconds: number }
  /** Called with each token before it is handed out. */
  issued: (token: string) => unknown
}

/** Answers as for one instance of a Cloud Run service in the project `project-1`. */
export async function startMetadataServer (t: Test): Promise<MetadataServer> {
  const asked: string[] = []
  let tokens = 0
  const lifetime = { seconds: 3_600 }
  const values: Record<string, string | undefined> = {
    '/project/project-id': 'project-1',
    '/project/numeric-project-id': '123456789',
    '/instance/region': 'projects/123456789/regions/europe-west1',
    '/instance/zone': 'projects/123456789/zones/europe-west1-1',
    '/instance/id': '00bf4bf02d',
    '/instance/service-accounts/default/email': 'chat@project-1.iam.gserviceaccount.com'
  }
  const metadata: MetadataServer = { asked, values, lifetime, env: {}, issued: () => {} }
  const server = createServer(async (request, response) => {
    const path = (request.url ?? '').replace('/computeMetadata/v1', '').split('?', 1)[0] as string
    asked.push(path)
    let value = values[path]
    if (path === '/instance/service-accounts/default/token') {
      const token = `token-${++tokens}`
      await metadata.issued(token)
      value ??= JSON.stringify({ access_token: token, expires_in: lifetime.seconds, token_type: 'Bearer' })
    }
    if (value === 'hang') return
    const known = value !== undefined && request.headers['metadata-flavor'] === 'Google'
    const type = value?.startsWith('{') ? 'application/json' : 'text/plain'
    response.writeHead(known ? 200 : 404, { 'metadata-flavor': 'Google', 'content-type': type })
    response.end(known ? value : 'not found')
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  const { port } = server.address() as AddressInfo
  const env = { GCE_METADATA_HOST: `127.0.0.1:${port}`, METADATA_SERVER_DETECTION: 'assume-present' }
  return Object.assign(metadata, { env })
}
