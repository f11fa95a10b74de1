import t from 'tap'
import { detectCloudRun } from '../../lib/google/cloud-run.ts'
import { startMetadataServer } from '../helpers/metadata.ts'
import { until } from '../helpers/until.ts'

const environment = { K_SERVICE: 'chat', K_REVISION: 'chat-00042-abc', K_CONFIGURATION: 'chat' }

t.test('on Cloud Run the service, project, region and instance are known', async (t) => {
  const metadata = await startMetadataServer(t)
  t.strictSame(await detectCloudRun({ ...environment, ...metadata.env }), {
    service: 'chat', revision: 'chat-00042-abc', configuration: 'chat', project: 'project-1', region: 'europe-west1', instance: '00bf4bf02d'
  })
})

t.test('a project in the environment goes before that of the metadata server', async (t) => {
  const metadata = await startMetadataServer(t)
  t.match(await detectCloudRun({ ...environment, ...metadata.env, GOOGLE_CLOUD_PROJECT: 'mine' }), { project: 'mine' })
  t.notOk(metadata.asked.includes('/project/project-id'))
})

t.test('what was answered once is not asked again, what came too late is', async (t) => {
  const metadata = await startMetadataServer(t)
  metadata.values['/instance/id'] = 'hang'
  const first = detectCloudRun({ ...environment, ...metadata.env })
  await until(() => metadata.asked.filter(path => path === '/instance/id').length === 2, 'it is asked again')
  metadata.values['/instance/id'] = '00c0ffee'
  t.match(await first, { instance: '00c0ffee' })
  const runs = await Promise.all([1, 2, 3].map(() => detectCloudRun({ ...environment, ...metadata.env })))
  t.ok(runs.every(run => run?.instance === '00c0ffee'))
  t.strictSame(metadata.asked.filter(path => path === '/project/project-id').length, 1)
})

t.test('elsewhere nobody is asked', async (t) => {
  const metadata = await startMetadataServer(t)
  t.equal(await detectCloudRun(metadata.env), undefined)
  t.equal(await detectCloudRun({ ...metadata.env, K_SERVICE: '' }), undefined)
  t.strictSame(metadata.asked, [])
})

t.test('what the metadata server does not know, or does not say in time, is left out', async (t) => {
  const metadata = await startMetadataServer(t)
  metadata.values['/instance/id'] = undefined
  metadata.values['/instance/region'] = 'hang'
  metadata.values['/project/project-id'] = ''
  t.match(await detectCloudRun({ ...environment, ...metadata.env }), { service: 'chat', project: undefined, region: undefined, instance: undefined })
  t.match(await detectCloudRun({ K_SERVICE: 'chat', GCE_METADATA_HOST: '127.0.0.1:1' }), { service: 'chat', revision: '', configuration: '', project: undefined })
})
