// A QR code (ISO/IEC 18004, byte mode) of a text, as an SVG element; null if the text is too long.
function qrCode(text) {
  "use strict";
  var LEVELS = [
    // Level M, then L for what does not fit: bits in the format, check bytes a block, blocks, by version.
    { bits: 0,
      check: [10,16,26,18,24,16,18,22,22,26,30,22,22,24,24,28,28,26,26,26,26,28,28,28,28,28,28,28,28,28,28,28,28,28,28,28,28,28,28,28],
      blocks: [1,1,1,2,2,4,4,4,5,5,5,8,9,9,10,10,11,13,14,16,17,17,18,20,21,23,25,26,28,29,31,33,35,37,38,40,43,45,47,49] },
    { bits: 1,
      check: [7,10,15,20,26,18,20,24,30,18,20,24,26,30,22,24,28,30,28,28,28,28,30,30,26,28,30,30,30,30,30,30,30,30,30,30,30,30,30,30],
      blocks: [1,1,1,1,1,2,2,2,2,4,4,4,4,4,6,6,6,6,7,8,8,9,9,10,12,12,12,13,14,15,16,17,18,19,19,20,21,22,24,25] }
  ];
  var bytes = new TextEncoder().encode(text);

  // Places of alignment marks, the same in both directions.
  function marks(version) {
    if (version === 1) return [];
    var count = Math.floor(version / 7) + 2;
    var step = version === 32 ? 26 : Math.ceil((version * 4 + 4) / (count * 2 - 2)) * 2;
    var places = [6];
    for (var at = version * 4 + 10; places.length < count; at -= step) places.splice(1, 0, at);
    return places;
  }

  // Bytes of data and check together.
  function capacity(version) {
    var size = version * 4 + 17;
    var modules = size * size - 3 * 64 - 2 * 15 - 1 - 2 * (size - 16);
    if (version > 1) {
      var count = marks(version).length;
      modules -= (count * count - 3) * 25 - 2 * (count - 2) * 5;
    }
    if (version > 6) modules -= 36;
    return Math.floor(modules / 8);
  }

  var version = 0, level = null, dataBytes = 0;
  LEVELS.some(function (tried) {
    for (var v = 1; v <= 40; v++) {
      dataBytes = capacity(v) - tried.check[v - 1] * tried.blocks[v - 1];
      if (bytes.length + (v < 10 ? 2 : 3) <= dataBytes) {
        version = v;
        level = tried;
        return true;
      }
    }
    return false;
  });
  if (!level) return null;

  // Mode, length, data, end, filler.
  var bits = [];
  function put(value, length) {
    for (var i = length - 1; i >= 0; i--) bits.push((value >>> i) & 1);
  }
  put(4, 4);
  put(bytes.length, version < 10 ? 8 : 16);
  bytes.forEach(function (byte) { put(byte, 8); });
  put(0, Math.min(4, dataBytes * 8 - bits.length));
  put(0, (8 - bits.length % 8) % 8);
  for (var filler = 0xec; bits.length < dataBytes * 8; filler ^= 0xec ^ 0x11) put(filler, 8);
  var data = [];
  for (var i = 0; i < bits.length; i += 8) data.push(parseInt(bits.slice(i, i + 8).join(""), 2));

  // Reed-Solomon check bytes over GF(256) with the polynomial 0x11d.
  function times(a, b) {
    var product = 0;
    for (var i = 7; i >= 0; i--) {
      product = (product << 1) ^ ((product >>> 7) * 0x11d);
      product ^= ((b >>> i) & 1) * a;
    }
    return product;
  }
  var checkBytes = level.check[version - 1], blocks = level.blocks[version - 1];
  var generator = [1];
  for (var root = 1, n = 0; n < checkBytes; n++, root = times(root, 2)) {
    generator.push(0);
    for (var k = generator.length - 1; k > 0; k--) generator[k] ^= times(generator[k - 1], root);
  }
  function checkOf(block) {
    var rest = block.concat(new Array(checkBytes).fill(0));
    for (var at = 0; at < block.length; at++) {
      var factor = rest[at];
      for (var k = 1; k < generator.length; k++) rest[at + k] ^= times(generator[k], factor);
    }
    return rest.slice(block.length);
  }
  var shortBytes = Math.floor(dataBytes / blocks), longFrom = blocks - dataBytes % blocks;
  var parts = [], checks = [], from = 0;
  for (var b = 0; b < blocks; b++) {
    var part = data.slice(from, from + shortBytes + (b < longFrom ? 0 : 1));
    from += part.length;
    parts.push(part);
    checks.push(checkOf(part));
  }
  var stream = [];
  for (var column = 0; column <= shortBytes; column++)
    parts.forEach(function (part) { if (column < part.length) stream.push(part[column]); });
  for (var c = 0; c < checkBytes; c++) checks.forEach(function (check) { stream.push(check[c]); });

  // The grid: dark or not, and what does not belong to the data.
  var size = version * 4 + 17;
  var grid = [], fixed = [];
  for (var y = 0; y < size; y++) {
    grid.push(new Array(size).fill(false));
    fixed.push(new Array(size).fill(false));
  }
  function set(x, y, dark) {
    if (x < 0 || y < 0 || x >= size || y >= size) return;
    grid[y][x] = dark;
    fixed[y][x] = true;
  }
  for (var t = 0; t < size; t++) {
    set(6, t, t % 2 === 0);
    set(t, 6, t % 2 === 0);
  }
  [[3, 3], [size - 4, 3], [3, size - 4]].forEach(function (centre) {
    for (var dy = -4; dy <= 4; dy++)
      for (var dx = -4; dx <= 4; dx++) {
        var ring = Math.max(Math.abs(dx), Math.abs(dy));
        set(centre[0] + dx, centre[1] + dy, ring !== 2 && ring !== 4);
      }
  });
  var places = marks(version), last = places.length - 1;
  places.forEach(function (x, i) {
    places.forEach(function (y, j) {
      if (i === 0 && j === 0 || i === 0 && j === last || i === last && j === 0) return;
      for (var dy = -2; dy <= 2; dy++)
        for (var dx = -2; dx <= 2; dx++) set(x + dx, y + dy, Math.max(Math.abs(dx), Math.abs(dy)) !== 1);
    });
  });
  function putFormat(mask) {
    var value = level.bits << 3 | mask, rest = value;
    for (var i = 0; i < 10; i++) rest = (rest << 1) ^ ((rest >>> 9) * 0x537);
    var format = (value << 10 | rest) ^ 0x5412;
    var bit = function (i) { return (format >>> i & 1) === 1; };
    for (var a = 0; a < 6; a++) set(8, a, bit(a));
    set(8, 7, bit(6));
    set(8, 8, bit(7));
    set(7, 8, bit(8));
    for (var d = 9; d < 15; d++) set(14 - d, 8, bit(d));
    for (var e = 0; e < 8; e++) set(size - 1 - e, 8, bit(e));
    for (var f = 8; f < 15; f++) set(8, size - 15 + f, bit(f));
    set(8, size - 8, true);
  }
  putFormat(0);
  if (version > 6) {
    var rest = version;
    for (var s = 0; s < 12; s++) rest = (rest << 1) ^ ((rest >>> 11) * 0x1f25);
    var number = version << 12 | rest;
    for (var w = 0; w < 18; w++) {
      var dark = (number >>> w & 1) === 1, p = size - 11 + w % 3, q = Math.floor(w / 3);
      set(p, q, dark);
      set(q, p, dark);
    }
  }

  // The stream, in columns of two from the right, up and down in turn.
  var next = 0;
  for (var right = size - 1; right >= 1; right -= 2) {
    if (right === 6) right = 5;
    for (var step = 0; step < size; step++)
      for (var side = 0; side < 2; side++) {
        var px = right - side, up = (right + 1 & 2) === 0, py = up ? size - 1 - step : step;
        if (fixed[py][px] || next >= stream.length * 8) continue;
        grid[py][px] = (stream[next >>> 3] >>> (7 - (next & 7)) & 1) === 1;
        next++;
      }
  }

  var MASKS = [
    function (x, y) { return (x + y) % 2; },
    function (x, y) { return y % 2; },
    function (x) { return x % 3; },
    function (x, y) { return (x + y) % 3; },
    function (x, y) { return (Math.floor(x / 3) + Math.floor(y / 2)) % 2; },
    function (x, y) { return x * y % 2 + x * y % 3; },
    function (x, y) { return (x * y % 2 + x * y % 3) % 2; },
    function (x, y) { return ((x + y) % 2 + x * y % 3) % 2; }
  ];
  function applyMask(mask) {
    for (var y = 0; y < size; y++)
      for (var x = 0; x < size; x++)
        if (!fixed[y][x] && MASKS[mask](x, y) === 0) grid[y][x] = !grid[y][x];
  }
  // How hard the grid would be to read.
  function penalty() {
    var sum = 0, darks = 0;
    for (var turn = 0; turn < 2; turn++)
      for (var a = 0; a < size; a++) {
        var line = "";
        for (var b = 0; b < size; b++) line += (turn === 0 ? grid[a][b] : grid[b][a]) ? "1" : "0";
        (line.match(/0{5,}|1{5,}/g) || []).forEach(function (run) { sum += run.length - 2; });
        for (var at = 0; at + 11 <= size; at++) {
          var seen = line.slice(at, at + 11);
          if (seen === "10111010000" || seen === "00001011101") sum += 40;
        }
      }
    for (var y = 0; y < size; y++)
      for (var x = 0; x < size; x++) {
        if (grid[y][x]) darks++;
        if (x + 1 < size && y + 1 < size && grid[y][x] === grid[y][x + 1] && grid[y][x] === grid[y + 1][x] &&
            grid[y][x] === grid[y + 1][x + 1]) sum += 3;
      }
    return sum + Math.floor(Math.abs(darks * 20 - size * size * 10) / (size * size)) * 10;
  }
  var best = 0, least = Infinity;
  for (var mask = 0; mask < 8; mask++) {
    putFormat(mask);
    applyMask(mask);
    var found = penalty();
    if (found < least) {
      least = found;
      best = mask;
    }
    applyMask(mask);
  }
  putFormat(best);
  applyMask(best);

  var path = "";
  for (var row = 0; row < size; row++)
    for (var col = 0; col < size; col++) if (grid[row][col]) path += "M" + (col + 4) + " " + (row + 4) + "h1v1h-1z";
  var namespace = "http://www.w3.org/2000/svg";
  var svg = document.createElementNS(namespace, "svg");
  svg.setAttribute("viewBox", "0 0 " + (size + 8) + " " + (size + 8));
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", "QR code of the link");
  svg.setAttribute("shape-rendering", "crispEdges");
  var drawn = document.createElementNS(namespace, "path");
  drawn.setAttribute("d", path);
  drawn.setAttribute("fill", "#000000");
  svg.appendChild(drawn);
  return svg;
}
