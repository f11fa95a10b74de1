import { execFileSync } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { fileCredentials } from '../../index.ts'
import { temporaryFolder } from '../helpers/certificates.ts'

t.test('the password is what the file holds now, without one newline at its end', async (t) => {
  const path = join(await temporaryFolder(t), 'password')
  const { credentials } = fileCredentials(path)
  for (const [text, password] of [['hush', 'hush'], ['hush\n', 'hush'], ['hush\r\n', 'hush'], ['hush\n\n', 'hush\n'], [' hush ', ' hush ']] as const) {
    await writeFile(path, text)
    t.strictSame(await credentials(), { username: 'default', password })
  }
  t.match(await fileCredentials(path, 'ada').credentials(), { username: 'ada' })
})

t.test('a file that is missing or empty is a reason that names it', async (t) => {
  const path = join(await temporaryFolder(t), 'password')
  const { credentials } = fileCredentials(path)
  await t.rejects(credentials(), { message: `no password for Redis: the file ${path} cannot be read (ENOENT)` })
  await writeFile(path, '\n')
  await t.rejects(credentials(), { message: `no password for Redis: the file ${path} is empty` })
})

t.test('attempts share one read, so that a mount that hangs does not take every thread of the file system', async (t) => {
  const folder = await temporaryFolder(t)
  const hangs = join(folder, 'hangs')
  execFileSync('mkfifo', [hangs])
  const { credentials } = fileCredentials(hangs)
  const attempts = Array.from({ length: 8 }, () => credentials())
  await writeFile(join(folder, 'other'), 'read')
  t.equal(await readFile(join(folder, 'other'), 'utf8'), 'read')
  await writeFile(hangs, 'hush')
  t.strictSame((await Promise.all(attempts)).map(({ password }) => password), Array(8).fill('hush'))
})
