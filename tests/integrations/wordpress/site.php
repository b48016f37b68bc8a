<?php
// What somebody does by hand in a new site: installs it, makes users and their application passwords; and, with a file's
// id as its argument, what a server does that ran out of time: the picture is there, its smaller sizes are not.
define('WP_INSTALLING', $argc === 2);
$_SERVER['HTTP_HOST'] = parse_url(getenv('SITE_URL'), PHP_URL_HOST);
require getenv('SITE_ROOT') . '/wp-load.php';
if ($argc === 3) {
    $meta = wp_get_attachment_metadata((int) $argv[2]);
    $meta['sizes'] = [];
    wp_update_attachment_metadata((int) $argv[2], $meta);
    exit;
}
require ABSPATH . 'wp-admin/includes/upgrade.php';
wp_install('Lamps', 'ada', 'ada@shop.example', true, '', 'not an application password');
update_option('permalink_structure', '/%postname%/');
// As WooCommerce's own installation does it.
foreach (['edit_products', 'edit_published_products', 'edit_others_products'] as $capability) {
    get_role('administrator')->add_cap($capability);
}
wp_create_user('reader', 'not an application password', 'reader@shop.example');
$passwords = [];
foreach (['ada', 'reader'] as $name) {
    $user = get_user_by('login', $name);
    $made = WP_Application_Passwords::create_new_application_password($user->ID, ['name' => 'Wirephoto']);
    $passwords[$name] = WP_Application_Passwords::chunk_password($made[0]);
}
echo json_encode($passwords);
