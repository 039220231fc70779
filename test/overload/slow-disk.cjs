/**
 * Loaded before a node (`NODE_OPTIONS=--require`): makes its disk as slow as the file that SLOW_DISK names says, which may
 * change while it runs: `{"writeMs": 0, "syncMs": 3000}`, what each write and each fsync takes longer.
 */
const fs = require('node:fs');
const { syncBuiltinESMExports } = require('node:module');

const { readFileSync } = fs;
const path = process.env.SLOW_DISK;

function delayMs(key) {
  try {
    return JSON.parse(readFileSync(path, 'utf8'))[key] ?? 0;
  } catch {
    return 0;
  }
}

function slow(name, key) {
  const own = fs[name];
  fs[name] = (fd, ...rest) => {
    const ms = typeof fd === 'number' && fd > 2 ? delayMs(key) : 0;
    if (ms === 0) own(fd, ...rest);
    else setTimeout(() => own(fd, ...rest), ms);
  };
}

// Worker threads of libraries load this, too; what they write is not meant, and costs nothing.
slow('write', 'writeMs');
slow('writev', 'writeMs');
slow('fdatasync', 'syncMs');
syncBuiltinESMExports();
