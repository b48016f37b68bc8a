<?php
// What a web server's rewrite rules do for WordPress: a file that is there is given, all else is index.php's.
$path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
$uploads = '/wp-content/uploads/';
if (str_starts_with($path, $uploads)) {
    $file = getenv('SITE_CONTENT') . '/uploads/' . substr($path, strlen($uploads));
    if (!is_file($file) || str_contains($path, '..')) {
        http_response_code(404);
        return true;
    }
    header('Content-Type: ' . mime_content_type($file));
    readfile($file);
    return true;
}
$_SERVER['SCRIPT_NAME'] = $_SERVER['PHP_SELF'] = '/index.php';
chdir($_SERVER['DOCUMENT_ROOT']);
require 'index.php';
