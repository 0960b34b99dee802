(function () {
  "use strict";
  // The part behind # is the secret of the link: it stays in the browser.
  var kind = document.body.dataset.kind;
  var secret = location.hash;
  var element = function (id) { return document.getElementById(id); };
  var show = function (id) { element(id).hidden = false; };
  window.addEventListener("hashchange", function () { location.reload(); });
  if (secret.length < 2) {
    show("incomplete");
    return;
  }

  // Short links name further hosts of the server in the parameter h; the one that was asked comes first.
  function appLink() {
    var start = "simplex:/" + kind;
    if (kind.length > 1) return start + secret;
    var at = secret.indexOf("?");
    if (at < 0) return start + secret + "?h=" + location.hostname;
    var found = false;
    var parameters = secret.slice(at + 1).split("&").map(function (parameter) {
      if (found || parameter.slice(0, 2) !== "h=") return parameter;
      found = true;
      return "h=" + location.hostname + "," + parameter.slice(2);
    });
    if (!found) parameters.push("h=" + location.hostname);
    return start + secret.slice(0, at + 1) + parameters.join("&");
  }

  var link = "https://" + location.host + "/" + kind + secret;
  element("open").href = appLink();
  element("link").textContent = link;
  var copy = element("copy");
  if (navigator.clipboard) {
    copy.hidden = false;
    copy.addEventListener("click", function () {
      navigator.clipboard.writeText(link).then(function () { element("copied").textContent = "Copied"; });
    });
  }
  var code = qrCode(link);
  if (code) {
    element("code").appendChild(code);
    show("scan");
  }
  show("steps");
})();
